"""`dipole data convert`: other people's datasets in, and LeRobot out."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dipole.apps.errors import UsageError
from dipole.data.convert import ConversionReport, run
from dipole.data.core.episode_numbers import parse_episode_numbers
from dipole.data.core.registry import nearest
from dipole.data.sources.source import positive_number
from dipole.data.sources.words import ConversionRequest, open_request
from dipole.envs import pusht_geometry  # noqa: F401  registers its mirror

WORDS = """words:
  also=A,B         further datasets with these keys, whose episodes follow [none]
  mirror=pusht     after them the same episodes in a mirror: twice the demonstrations [none]
  keys=A,B         what is taken, cameras too; "action" must be among them [all]
  episodes=1,4-7   which episodes, by the source's own numbers [all]
  fps=N            frames a second of datasets that record none
  environment=NAME where those were recorded that do not say it, such as pusht
  images=HOW       keep: video stays video, other pictures are stored losslessly (zstd)
                   zstd, jxl: all pictures losslessly; jpeg: smaller, and not the same [keep]
  to=FORMAT        store, or lerobot: LeRobot v3.0 [store]"""


def run_convert(source: str, destination: str, words: Sequence[str]) -> int:
    """Convert; returns 0. Raises UsageError for words that say nothing."""
    said = _words(words)
    to = said.pop("to", "store")
    if to not in ("store", "lerobot"):
        raise UsageError(f"to={to}{nearest(to, ('store', 'lerobot'))} Known: store, lerobot")
    request = ConversionRequest(
        source=source,
        destination=destination,
        also=tuple(said["also"].split(",")) if "also" in said else (),
        fps=frame_rate(said.get("fps")),
        environment=said.get("environment", ""),
        keys=tuple(said["keys"].split(",")) if "keys" in said else None,
        episodes=parse_episode_numbers(said["episodes"]) if "episodes" in said else None,
        mirror=said.get("mirror", ""),
        images=said.get("images", "keep"),
    )
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        if to == "lerobot":
            from dipole.data.export.lerobot import export_lerobot

            opened = open_request(request)
            export_lerobot(opened, Path(destination).expanduser(), progress)
            format = opened.info.format
        else:
            report = run(request, progress)
            format = report.format
    if to == "store":
        _say(report)
    came = " and ".join(str(path) for path in (source, *request.also))
    print(f"{format} at {came} is now at {destination}")
    return 0


def _say(report: ConversionReport) -> None:
    for key, why in report.left_out.items():
        print(f"left out: {key}: {why}")
    for warning in report.warnings:
        print(f"warning: {warning}")
    print(f"{report.n_episodes} episodes, {report.n_frames} frames: {', '.join(report.keys)}")


def frame_rate(text: str | None) -> float | None:
    """Frames a second from a word; raises UsageError where it is no positive number."""
    try:
        value = None if text is None else positive_number(float(text))
    except ValueError:
        value = None
    if text is not None and value is None:
        raise UsageError(f"fps={text}: a positive number of frames a second is needed")
    return value


def _words(words: Sequence[str]) -> dict[str, str]:
    known = ("also", "mirror", "keys", "episodes", "fps", "environment", "images", "to")
    said = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value or name not in known:
            hint = nearest(name, known)
            raise UsageError(f"{word!r}{hint or ':'} Words are {', '.join(f'{k}=' for k in known)}")
        said[name] = value
    return said
