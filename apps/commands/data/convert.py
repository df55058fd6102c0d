"""`dipole data convert`: other people's datasets in, and LeRobot out."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dipole.apps.terminal.errors import UsageError
from dipole.apps.terminal.tools import Work, comma_list, pairs
from dipole.data.convert import ConversionReport, run
from dipole.data.core.episode_numbers import parse_episode_numbers
from dipole.data.core.errors import ConfigError, DataError
from dipole.data.sources.combine.converted import parse_convert
from dipole.data.sources.combine.resized import parse_resize
from dipole.data.sources.combine.shifted import parse_shift
from dipole.data.sources.combine.trimmed import parse_trim
from dipole.data.sources.source import positive_number
from dipole.data.sources.words import ConversionRequest, open_request
from dipole.data.store.objects.url import is_url

SEVERAL = "Several: with commas between, or the option again."


class Images(StrEnum):
    """How pictures are stored."""

    KEEP = "keep"
    ZSTD = "zstd"
    JXL = "jxl"
    JPEG = "jpeg"


class Format(StrEnum):
    """What is written."""

    STORE = "store"
    LEROBOT = "lerobot"


def _text(metavar: str, words: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=words, metavar=metavar, show_default=False)
    return option


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="The dataset to read; its format is recognised.",
            show_default=False,
        ),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DESTINATION",
            help="A folder, or a name that ends in .zip, on the disk or in object storage "
            "(s3://BUCKET/NAME.zarr); must not exist.",
            show_default=False,
        ),
    ],
    keys: Annotated[
        str | None,
        _text(
            "KEY,KEY", "What is taken, A,B: cameras too; action must be among them. By default all."
        ),
    ] = None,
    episodes: Annotated[
        str | None,
        _text("NUMBERS", "Which episodes, by the source's own numbers: 0-9,12. By default all."),
    ] = None,
    group: Annotated[
        list[str] | None,
        _text("NAME", f"Subsets that the source records, such as train. {SEVERAL}"),
    ] = None,
    images: Annotated[
        Images,
        typer.Option(
            metavar="keep|zstd|jxl|jpeg",
            help="keep: video stays video, other pictures are stored losslessly (zstd); zstd, jxl: "
            "all pictures losslessly; jpeg: smaller, and not the same.",
        ),
    ] = Images.KEEP,
    rename: Annotated[
        list[str] | None,
        _text("OLD=NEW", f"New names of keys, OLD=NEW, as actions=action. {SEVERAL}"),
    ] = None,
    concatenate: Annotated[
        list[str] | None,
        _text("NEW=KEY,KEY", "A key made of several, NEW=A,B; the option again for another."),
    ] = None,
    dtype: Annotated[
        list[str] | None, _text("KEY=TYPE", f"Other types of numbers, KEY=float32. {SEVERAL}")
    ] = None,
    convert: Annotated[
        list[str] | None,
        _text(
            "KEY:COLUMNS=TRANSFORM",
            "Columns converted for good, as action:3-6=quaternion_to_6d. The option again for "
            "another.",
        ),
    ] = None,
    resample: Annotated[float | None, _text("RATE", "Frames a second of the result.")] = None,
    shift: Annotated[
        list[str] | None,
        _text(
            "KEY=FRAMES",
            "Numbers taken from later frames, action=1: the action of the next one, where it was "
            f"recorded as the state of its own. {SEVERAL}",
        ),
    ] = None,
    resize: Annotated[
        list[str] | None,
        _text(
            "HEIGHTxWIDTH",
            "Pictures and depth in another size, 240x320, or those of one camera, "
            f"wrist=96x128. {SEVERAL}",
        ),
    ] = None,
    trim: Annotated[
        str,
        _text(
            "HOW",
            "Without idle time: idle (at the ends), idle:all, and settings after it, as "
            "idle,keep=0.5 (seconds).",
        ),
    ] = "",
    also: Annotated[
        list[str] | None,
        _text(
            "DATASET,DATASET", f"Further datasets with these keys, whose episodes follow. {SEVERAL}"
        ),
    ] = None,
    mirror: Annotated[
        str,
        _text("NAME", "After them the same episodes in a mirror, such as pusht: twice as many."),
    ] = "",
    fps: Annotated[
        float | None, _text("RATE", "Frames a second of datasets that record none.")
    ] = None,
    environment: Annotated[
        str, _text("NAME", "Where those were recorded that do not say it, such as pusht.")
    ] = "",
    task: Annotated[
        str, _text("TEXT", "What was to be done, in words, where that is not recorded.")
    ] = "",
    to: Annotated[
        Format, typer.Option(metavar="store|lerobot", help="store, or lerobot: LeRobot v3.0.")
    ] = Format.STORE,
) -> Work:
    """Bring in a dataset, or write LeRobot v3.0.

    An interrupted conversion goes on when it is called again.
    """
    _check(trim, convert or [], _several(resize))
    request = ConversionRequest(
        source=source,
        destination=destination,
        also=_several(also),
        fps=_positive("--fps", fps),
        environment=environment,
        task=task,
        rename=pairs("--rename", rename),
        concatenate=_concatenated(concatenate),
        dtype=pairs("--dtype", dtype),
        keys=None if keys is None else comma_list(keys),
        episodes=None if episodes is None else _episodes(episodes),
        group=_several(group),
        mirror=mirror,
        resample=_positive("--resample", resample),
        shift=_shifts(shift),
        resize=_several(resize),
        trim=trim,
        convert=tuple(convert or ()),
        images=images.value,
    )
    return lambda: _convert(request, to)


def _check(trim: str, conversions: list[str], sizes: tuple[str, ...]) -> None:
    """Words of their own grammar are refused before anything is opened."""
    try:
        if trim:
            parse_trim(trim)
        for word in conversions:
            parse_convert(word)
        parse_resize(sizes)
    except ConfigError as error:
        raise UsageError(f"--{error}") from error


def _convert(request: ConversionRequest, to: Format) -> int:
    import dipole.envs  # noqa: F401  simulators register their mirrors

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("reading", total=None)

        def progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        if to is Format.LEROBOT:
            from dipole.data.export.lerobot import export_lerobot

            if is_url(destination := str(request.destination)):
                raise DataError(
                    f"{destination}: LeRobot's format is written to the disk: copy it from there"
                )
            opened = open_request(request)
            export_lerobot(opened, Path(request.destination).expanduser(), progress)
            name = opened.info.format
            notes = _notes(opened.info.left_out, opened.info.warnings)
        else:
            report: ConversionReport = run(request, progress)
            name = report.format
            notes = _notes(report.left_out, report.warnings)
            keys = ", ".join(report.keys)
            notes.append(f"{report.n_episodes} episodes, {report.n_frames} frames: {keys}")
    for note in notes:
        print(note)
    came = " and ".join(str(path) for path in (request.source, *request.also))
    print(f"{name} at {came} is now at {request.destination}")
    return 0


def _notes(left_out: dict[str, str], warnings: tuple[str, ...]) -> list[str]:
    left = [f"left out: {key}: {why}" for key, why in left_out.items()]
    return left + [f"warning: {warning}" for warning in warnings]


def _several(values: list[str] | None) -> tuple[str, ...]:
    """Each once: a dataset that is named twice would count twice."""
    every = [part for text in values or [] for part in comma_list(text)]
    for part in every:
        if every.count(part) > 1:
            raise UsageError(f"{part} is given {every.count(part)} times")
    return tuple(every)


def _whole_pairs(option: str, values: list[str] | None) -> dict[str, str]:
    """KEY=VALUE, one for each time that the option is given; commas belong to the value."""
    found: dict[str, str] = {}
    for text in values or []:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"{option} {text}: KEY=VALUE is needed")
        if name in found:
            raise UsageError(f"{option}: {name} is given twice")
        found[name] = value
    return found


def _concatenated(values: list[str] | None) -> dict[str, tuple[str, ...]]:
    made = _whole_pairs("--concatenate", values)
    return {name: comma_list(parts) for name, parts in made.items()}


def _episodes(text: str) -> tuple[int, ...]:
    try:
        return parse_episode_numbers(text)
    except ConfigError as error:
        raise UsageError(f"--episodes: {error}") from error


def _shifts(values: list[str] | None) -> dict[str, int]:
    try:
        return parse_shift(pairs("--shift", values))
    except ConfigError as error:
        raise UsageError(f"--{error}") from error


def _positive(option: str, value: float | None) -> float | None:
    if value is not None and positive_number(value) is None:
        raise UsageError(f"{option} {value:g}: a positive number is needed")
    return value
