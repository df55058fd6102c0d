"""Whether a dataset can be trusted: every chunk read, every number looked at.

Problems are what training must not see; warnings are what a person should look at. Reading goes on
after a problem, so that one run lists them all, and stays within bounded memory.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.inspection.column_summary import ColumnSummary
from dipole.data.loading.statistics import PIECE_BYTES
from dipole.data.loading.window_spec import WindowSpec
from dipole.data.store.bundle import dataset_path
from dipole.data.store.lazy_array import LazyArray
from dipole.data.store.metadata import StoreMetadata
from dipole.data.store.reading import (
    ends_problems,
    length_problems,
    no_arrays,
    read_arrays,
    read_episode_ends,
    read_store_metadata,
    read_tasks,
    read_videos,
    refuse_claimed_fill,
)
from dipole.data.store.zarr.tree import Tree, open_tree

MOST_PER_ARRAY = 10  # findings of one sort that are listed
MOST_COUNTED = 1000  # and that are counted


@dataclass(frozen=True)
class Finding:
    """level: problem or warning; where: a key or part of the dataset; message: what, what to do."""

    level: str
    where: str
    message: str


@dataclass
class Validation:
    """What was found in a dataset; `ok` where nothing is a problem."""

    path: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "problem"]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "warning"]

    @property
    def ok(self) -> bool:
        return not self.problems

    def problem(self, where: str, *messages: str) -> None:
        self._add("problem", where, messages)

    def warning(self, where: str, *messages: str) -> None:
        self._add("warning", where, messages)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"path": self.path, "ok": self.ok, "findings": [asdict(f) for f in self.findings]}

    def _add(self, level: str, where: str, messages: tuple[str, ...]) -> None:
        listed = [*messages[:MOST_PER_ARRAY]]
        if len(messages) > len(listed):
            listed.append(f"and at least {len(messages) - len(listed)} more like these")
        self.findings += [Finding(level, where, message) for message in listed]


def validate(path: str | Path, log: Callable[[str], object] = lambda _: None) -> Validation:
    """Everything that is wrong or odd with the dataset at `path`; log: told which array is read.

    Never raises DataError: a dataset that cannot be opened is a finding too.
    """
    result = Validation(str(path))
    try:
        files = open_tree(dataset_path(path))
    except DataError as error:
        result.problem("files", str(error))
        return result
    metadata = _try(result, "attributes", lambda: read_store_metadata(files)) or StoreMetadata()
    ends = _try(result, "meta/episode_ends", lambda: read_episode_ends(files))
    arrays = _read_arrays(result, files, metadata)
    if ends is not None:
        videos, unreadable = read_videos(files, metadata, ends)
        for reason in unreadable.values():
            result.problem("videos", reason)
        arrays = {**arrays, **videos}
        if not ends_problems(ends):
            _try(result, "tasks", lambda: read_tasks(files, metadata, ends))
        _check_episodes(result, arrays, ends)
    refuse_claimed_fill(arrays)
    _check_keys(result, arrays, metadata)
    for key, array in arrays.items():
        log(f"reading {key}")
        _check_numbers(result, key, array, np.zeros(0, np.int64) if ends is None else ends)
    return result


def _try(result: Validation, where: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except DataError as error:
        result.problem(where, str(error))
        return None


def _read_arrays(result: Validation, files: Tree, metadata: StoreMetadata) -> dict[str, LazyArray]:
    arrays, unreadable = read_arrays(files, metadata)
    for key, reason in unreadable.items():
        result.problem(key, reason)
    if not files.folders("data"):
        result.problem("data", no_arrays(files))
    return dict(arrays)


def _check_episodes(result: Validation, arrays: Mapping[str, LazyArray], ends: np.ndarray) -> None:
    result.problem("meta/episode_ends", *ends_problems(ends))
    result.problem("lengths", *length_problems(arrays, ends).values())
    lengths = np.diff(ends, prepend=0)
    spec = WindowSpec()
    short = np.flatnonzero(spec.count(lengths) == 0)
    result.warning(
        "episodes",
        *(
            f"episode {e} has {lengths[e]} frames, too few for a window at 16/2/8: leave it out"
            for e in short
        ),
    )


def _check_keys(
    result: Validation, arrays: Mapping[str, LazyArray], metadata: StoreMetadata
) -> None:
    """The action, and what the attributes say of each array against what it is."""
    if "action" not in arrays:
        result.problem("action", f"no readable array data/action; there are {sorted(arrays)}")
    elif arrays["action"].ndim != 2:
        shape = list(arrays["action"].shape)
        result.problem("action", f"its shape is {shape}: [frames, dimensions] is needed")
    for key in metadata.frames:
        if key not in arrays:
            result.problem(key, "the schema describes it, but there is no readable array")
    for key, array in arrays.items():
        result.problem(key, *metadata.problems(key, array.shape[1:], array.dtype))


def _check_numbers(result: Validation, key: str, array: LazyArray, ends: np.ndarray) -> None:
    """Read everything: chunks, NaN and infinities, and for what is not an image its columns."""
    unreadable: list[str] = []
    not_finite: list[str] = []
    is_image = array.dtype == np.uint8 and array.ndim >= 4
    summary = None if is_image else ColumnSummary(array.shape)
    for start, frames in _readable(array, unreadable):
        finite = np.isfinite(frames).reshape(len(frames), -1).all(1)
        not_finite += [
            f"{_named(int(start + bad), ends)} holds NaN or infinity: mend it or leave it out"
            for bad in np.flatnonzero(~finite)[: MOST_COUNTED - len(not_finite)]
        ]
        if summary is not None:
            summary.add(start, frames)
    result.problem(key, *unreadable)
    result.problem(key, *not_finite)
    if summary is not None and summary.seen:
        _check_columns(result, key, array, summary, ends)


def _check_columns(
    result: Validation, key: str, array: LazyArray, summary: ColumnSummary, ends: np.ndarray
) -> None:
    constant, value = summary.constant()
    still = [
        f"dimension {_place(column, array)} is always {value[column]:g}: there is nothing to learn"
        for column in constant
    ]
    far = [
        f"dimension {_place(o.column, array)} is {o.value:g} in {_named(o.frame, ends)}, but half "
        f"its values are in [{o.low:g}, {o.high:g}]: 'limits' would stretch to include it"
        for o in summary.outliers()
    ]
    result.warning(key, *still)
    result.warning(key, *far)


def _readable(array: LazyArray, unreadable: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    """Each run of whole chunks and its first frame; what cannot be read goes into the list."""
    size = max(PIECE_BYTES // max(array.frame_bytes, 1) // array.chunk_length, 1)
    only_claimed = array.n_chunks > 0 and array.problem(array.n_chunks - 1) is not None
    if only_claimed:
        _read_or_note(array, range(array.n_chunks - 1, array.n_chunks), unreadable)
    for first in range(0, array.n_chunks - only_claimed, size):
        blocks = range(first, min(first + size, array.n_chunks - only_claimed))
        try:
            yield _read_blocks(array, blocks)
        except DataError:
            for block in blocks:
                found = _read_or_note(array, range(block, block + 1), unreadable)
                if found is not None:
                    yield found
                elif only_claimed and len(unreadable) > MOST_PER_ARRAY:
                    return  # there may be billions of them


def _read_or_note(
    array: LazyArray, blocks: range, unreadable: list[str]
) -> tuple[int, np.ndarray] | None:
    try:
        return _read_blocks(array, blocks)
    except DataError as error:
        unreadable.append(str(error))
        return None


def _read_blocks(array: LazyArray, blocks: range) -> tuple[int, np.ndarray]:
    start = blocks.start * array.chunk_length
    return start, array.read(start, min(blocks.stop * array.chunk_length, len(array)))


def _named(frame: int, ends: np.ndarray) -> str:
    """ "frame 120 (episode 3, its frame 7)"."""
    episode = int(np.searchsorted(ends, frame, side="right"))
    if episode >= len(ends):
        return f"frame {frame}"
    start = int(ends[episode - 1]) if episode else 0
    return f"frame {frame} (episode {episode}, its frame {frame - start})"


def _place(column: int, array: LazyArray) -> str:
    """A column's place in a frame: "3", or "(3, 1)" where a frame has several axes."""
    place = tuple(int(i) for i in np.unravel_index(column, array.shape[1:] or (1,)))
    return str(place[0]) if len(place) == 1 else str(place)
