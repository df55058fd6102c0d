"""What other people's datasets look like to the conversion, whatever their format.

A source names its keys, its episodes and their tasks, and reads pieces of an episode. It knows what
is missing: `absent` holds, for each key, the episodes whose frames cannot be read.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.registry import nearest
from dipole.data.store.bundle import dataset_path
from dipole.data.store.schema import FrameSchema
from dipole.data.store.video import Clip

PIECE_BYTES = 16 * 2**20  # of frames that are read at once


@dataclass(frozen=True)
class SourceEpisode:
    """One episode. number: what the source calls it; task: what was to be done, in words."""

    number: int
    n_frames: int
    task: str = ""


@dataclass(frozen=True)
class SourceInfo:
    """What a source is.

    format: for people; frames: schema by key; absent: key → numbers; also: further datasets in it;
    mirror: in which mirror its second half is its first.
    """

    path: Path
    format: str
    frames: dict[str, FrameSchema]
    episodes: list[SourceEpisode]
    fps: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, list[int]] = field(default_factory=dict)
    also: tuple[Path, ...] = ()
    mirror: str = ""


class Source(Protocol):
    """A dataset to convert. Reading raises DataError, naming episode and frame."""

    about: SourceInfo

    def read(self, episode: SourceEpisode, key: str, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop) of the episode: [stop - start, *shape]."""

    def clip(self, episode: SourceEpisode, key: str) -> Clip | None:
        """Where the episode's frames lie in a video, or None where `read` gives them."""


def frames_of(about: SourceInfo, keys: Sequence[str] | None) -> dict[str, FrameSchema]:
    """The schema of these keys, None for all; raises DataError for one that is not there."""
    for key in keys or ():
        if key not in about.frames:
            hint = nearest(key, about.frames)
            raise DataError(
                f"{about.path}: no key {key!r}{hint or '.'} It has: {', '.join(about.frames)}"
            )
    return {key: about.frames[key] for key in (about.frames if keys is None else keys)}


def with_missing_metadata(source: Source, fps: float | None = None, environment: str = "") -> None:
    """Say of a source what it does not say of itself: frames a second, the environment's name.

    Raises DataError where it says something else.
    """
    about = source.about
    if fps is not None and about.fps not in (None, fps):
        raise DataError(f"{about.path}: recorded at {about.fps:g} frames a second, not {fps:g}")
    recorded = about.environment.get("id")
    if environment and recorded not in (None, environment):
        raise DataError(f"{about.path}: recorded in {recorded!r}, not in {environment!r}")
    named = about.environment or ({"id": environment} if environment else {})
    source.about = replace(about, fps=about.fps or fps, environment=named)


def pieces(schema: FrameSchema, n_frames: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Frames [start, n_frames) in pieces of bounded size."""
    size = int(np.prod(schema.shape or (), dtype=np.int64)) * np.dtype(schema.dtype).itemsize
    step = max(PIECE_BYTES // max(size, 1), 1)
    for at in range(start, n_frames, step):
        yield at, min(at + step, n_frames)


def open_source(path: str | Path) -> Source:
    """The dataset at `path`, its format told from what is there.

    Raises DataError where there is nothing, or nothing that is known.
    """
    found = dataset_path(path)
    if not found.exists():
        raise DataError(f"{found}: there is no dataset here; check the path")
    for recognises, opens in _FORMATS:
        if recognises(found):
            return opens(found)
    raise DataError(
        f"{found}: not a dataset that is known. Known are LeRobot (a folder with meta/info.json), "
        "zarr of Diffusion Policy or of dipole (a folder or zip with data/ and meta/), and HDF5 in "
        "robomimic's layout (.hdf5)"
    )


def _is_hdf5(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _is_lerobot(path: Path) -> bool:
    return (path / "meta" / "info.json").is_file()


def _lerobot(path: Path) -> Source:
    from dipole.data.sources.lerobot.reader import LeRobotSource

    return LeRobotSource(path)


def _hdf5(path: Path) -> Source:
    from dipole.data.sources.robomimic import Hdf5Source

    return Hdf5Source(path)


def _store(path: Path) -> Source:
    from dipole.data.sources.zarr_store import StoreSource

    return StoreSource(path)


_FORMATS: list[tuple[Callable[[Path], bool], Callable[[Path], Source]]] = [
    (_is_lerobot, _lerobot),
    (_is_hdf5, _hdf5),
    (lambda path: True, _store),
]


def positive_number(value: Any) -> float | None:
    """A number such as frames a second that a file says, or None where it is none."""
    sound = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6
    return float(value) if sound else None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises DataError where the file is none."""
    try:
        values = json.loads(path.read_text())
        if isinstance(values, dict):
            return values
        raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}). Copy the dataset again") from error


def read_json_lines(path: Path) -> list[Mapping[str, Any]]:
    """One JSON object a line; raises DataError where a line is none."""
    rows = []
    try:
        with open(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.append(_object(path, number, line))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Copy the dataset again") from error
    return rows


def _object(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number}: not valid JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number}: not a JSON object")
    return row
