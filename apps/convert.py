"""`dipole data convert`: other people's datasets in, and LeRobot out."""

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dipole.apps.errors import UsageError
from dipole.data.convert import Selection, convert
from dipole.data.core.registry import nearest
from dipole.data.sources.combine.joined import open_joined
from dipole.data.sources.combine.mirrored import with_mirror_image
from dipole.data.sources.source import Source, open_source, positive_number, with_missing_metadata
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
    selection = Selection(
        keys=tuple(said["keys"].split(",")) if "keys" in said else None,
        episodes=episode_numbers(said["episodes"]) if "episodes" in said else None,
        images=said.get("images", "keep"),
    )
    console = Console(stderr=True)
    others = said["also"].split(",") if "also" in said else []
    fps, environment = frame_rate(said.get("fps")), said.get("environment", "")
    opened: Source
    if others:
        opened = open_joined([source, *others], selection.keys, fps, environment)
    else:
        opened = open_source(source)
        with_missing_metadata(opened, fps, environment)
    if "mirror" in said:
        opened = with_mirror_image(opened, said["mirror"], selection.of(opened.about))
        selection = Selection(images=selection.images)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        path = Path(destination).expanduser()
        if to == "lerobot":
            from dipole.data.export.lerobot import export_lerobot

            export_lerobot(opened, path, selection, progress)
        else:
            convert(opened, path, selection, progress)
    came = " and ".join([source, *others])
    print(f"{opened.about.format} at {came} is now at {destination}")
    return 0


def episode_numbers(text: str) -> tuple[int, ...]:
    """ "1,4-7" → 1, 4, 5, 6, 7; raises UsageError for anything else."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None:
            raise UsageError(f"episodes={text}: numbers and ranges are needed, such as 1,4-7")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(dict.fromkeys(numbers))


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
