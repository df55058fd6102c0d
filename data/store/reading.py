"""The parts of an episode store, each read from its files and checked: what it says of itself, its
arrays and videos, where episodes end and what was to be done in them.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.file_kinds import convert_it, other_format
from dipole.data.core.registry import nearest
from dipole.data.store.lazy_array import LazyArray
from dipole.data.store.metadata import NewerFormatError, StoreMetadata
from dipole.data.store.numbers import names_of_numbers
from dipole.data.store.tasks import TaskTable, spans_problem
from dipole.data.store.video_array import VideoArray
from dipole.data.store.zarr.layout import read_layout
from dipole.data.store.zarr.tree import Tree, read_metadata
from dipole.data.store.zarr_array import ChunkCache, ZarrArray

ENDS = "meta/episode_ends"
TASKS = "meta/task_index"
SPANS = "meta/task_spans"
DEEPEST = 6  # groups within each other that are looked for arrays


def read_store_metadata(files: Tree) -> StoreMetadata:
    """What the root group says of the dataset; raises DataError where there is no zarr group."""
    v3 = read_metadata(files, "zarr.json")
    v2 = read_metadata(files, ".zgroup")
    if v3 is None and v2 is None:
        format = other_format(files.path) if _is_folder(files.path) else ""
        if format:
            raise DataError(convert_it(files.path, format))
        inside = [
            name
            for name in files.folders("")
            if any(files.size(f"{name}/{file}") is not None for file in (".zgroup", "zarr.json"))
        ]
        hint = (
            f"it holds one in its folder {inside[0]!r}: give that folder, or zip what is inside it"
            if inside
            else "neither zarr.json (version 3) nor .zgroup (version 2) is in it"
        )
        raise DataError(f"{files.path}: not an episode store; {hint}")
    raw = v3 if v3 is not None else read_metadata(files, ".zattrs")
    try:
        said = json.loads(raw) if raw is not None else {}
        return StoreMetadata.of(said.get("attributes", {}) if v3 is not None else said)
    except NewerFormatError as error:
        raise DataError(f"{files.path}: {error}") from None
    except (DataError, ValueError, TypeError, AttributeError, RecursionError) as error:
        name = "zarr.json" if v3 is not None else ".zattrs"
        raise DataError(
            f"{files.path}: {name} is not valid ({error}). Restore it, or write the dataset again"
        ) from error


def _is_folder(path: object) -> bool:
    return isinstance(path, Path) and path.is_dir()


def read_arrays(
    files: Tree, metadata: StoreMetadata, keys: Iterable[str] | None = None
) -> tuple[dict[str, ZarrArray], dict[str, str]]:
    """The arrays under data/ by their key, and for those that cannot be read the reason.

    keys: None for all that are there.
    """
    cache = ChunkCache()
    arrays, unreadable = {}, {}
    for key in files.folders("data") if keys is None else keys:
        try:
            layout = read_layout(files, f"data/{key}")
            if layout is not None:
                arrays[key] = ZarrArray(files, layout, cache, fill=not metadata.format)
        except DataError as error:
            unreadable[key] = str(error)
    return arrays, unreadable


def nested_arrays(files: Tree) -> dict[str, str]:
    """Arrays in groups below data/, by their place in it, and why they are not taken."""
    found, open_groups = {}, [(key, 1) for key in files.folders("data")]
    while open_groups:
        place, depth = open_groups.pop()
        if _is_array(files, place):
            if depth > 1:
                found[place] = (
                    "it lies in a group, and only arrays directly below data/ are taken: write it "
                    f"as data/{place.replace('/', '.')}"
                )
        elif depth < DEEPEST:
            open_groups += [
                (f"{place}/{name}", depth + 1) for name in files.folders(f"data/{place}")
            ]
    return dict(sorted(found.items()))


def _is_array(files: Tree, place: str) -> bool:
    """Whether there is one at a place below data/, readable or not."""
    try:
        return read_layout(files, f"data/{place}") is not None
    except DataError:
        return True


def refuse_claimed_fill(arrays: Mapping[str, LazyArray]) -> None:
    """Take missing chunks for lost ones where no array has its last frames.

    How long an array is whose chunks were left out is told by the others; where none has an end,
    the metadata may claim anything.
    """
    stored = [array for array in arrays.values() if isinstance(array, ZarrArray)]
    if len(stored) == len(arrays) and not any(array.has_last_chunk() for array in stored):
        for array in stored:
            array.refuse_fill()


def read_videos(
    files: Tree, metadata: StoreMetadata, ends: np.ndarray, keys: Iterable[str] | None = None
) -> tuple[dict[str, VideoArray], dict[str, str]]:
    """The cameras under videos/ by their key, and for those that cannot be read the reason."""
    videos, unreadable = {}, {}
    for key in files.folders("videos") if keys is None else keys:
        try:
            videos[key] = _read_video(files, key, metadata, ends)
        except DataError as error:
            unreadable[key] = str(error)
    return videos, unreadable


def _read_video(files: Tree, key: str, metadata: StoreMetadata, ends: np.ndarray) -> VideoArray:
    """Raises DataError where the camera is not described."""
    said = metadata.frames.get(key)
    shape = None if said is None else said.shape
    if shape is None or len(shape) != 3 or shape[2] != 3 or not all(0 < n < 2**15 for n in shape):
        raise DataError(
            f"{files.path}: videos/{key}, but the schema says shape "
            f"{None if shape is None else list(shape)} of it: [height, width, 3] is needed"
        )
    first_frames = read_numbers(files, f"videos/{key}/first_frame")
    if first_frames is None or len(first_frames) != len(ends) or (first_frames < 0).any():
        raise DataError(
            f"{files.path}: videos/{key}/first_frame must have a number for each of "
            f"{len(ends)} episodes. Copy or convert the dataset again"
        )
    return VideoArray(files, key, shape, ends, first_frames)


def read_tasks(files: Tree, metadata: StoreMetadata, ends: np.ndarray) -> TaskTable:
    """What was to be done, by episode and frame; raises DataError where that is not sound."""
    words, index, spans = metadata.words, read_numbers(files, TASKS), read_numbers(files, SPANS, 2)
    if words is None and index is None and spans is None:
        return TaskTable.of([()] * len(ends), ends)
    if words is None or index is None or len(index) != len(ends):
        raise DataError(
            f"{files.path}: tasks are the attribute `tasks`, a list of words, and {TASKS}, a "
            f"number for each of {len(ends)} episodes. One of them is absent or another"
        )
    outside = np.flatnonzero((index < 0) | (index >= len(words)))
    if len(outside):
        episode = int(outside[0])
        raise DataError(
            f"{files.path}: {TASKS} says task {index[episode]} of episode {episode}, but there "
            f"are {len(words)} tasks. Mend the list"
        )
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    if spans is None:
        return TaskTable(words, index, np.stack([starts, index], 1))
    problem = spans_problem(words, index, spans, starts, int(ends[-1]))
    if problem is not None:
        raise DataError(f"{files.path}: {SPANS}: {problem}. Mend the list or remove it")
    return TaskTable(words, index, spans)


def unknown_key(path: object, key: str, known: Iterable[str]) -> DataError:
    """The error for a key that a dataset does not have."""
    names = sorted(known)
    hint = nearest(key, names) or "."
    return DataError(f"{path}: no array {key!r}{hint} It has: {', '.join(names)}")


def no_arrays(files: Tree) -> str:
    """What is said of a group without any array under data/."""
    return (
        f"{files.path}: no arrays under data/. An episode store holds data/<key> and "
        f"{ENDS}; see docs/data-format.md"
    )


def read_episode_ends(files: Tree) -> np.ndarray:
    """meta/episode_ends as int64 [episodes]; raises DataError where it is no list of integers."""
    ends = read_numbers(files, ENDS)
    if ends is None:
        raise DataError(
            f"{files.path}: no {ENDS}, so where episodes end is unknown; see docs/data-format.md"
        )
    return ends


def read_numbers(files: Tree, name: str, columns: int = 1) -> np.ndarray | None:
    """A list of integers as int64 [N], None where there is none; raises DataError for others.

    columns: more than 1 for a table [N, columns].
    """
    layout = read_layout(files, name)
    if layout is None:
        return None
    wanted = () if columns == 1 else (columns,)
    if layout.shape[1:] != wanted or layout.dtype.kind not in "iu":
        raise DataError(
            f"{files.path}: {name} is {layout.dtype} of shape {list(layout.shape)}, "
            f"not a list of integers: write it as int64 {['episodes', *wanted]}".replace("'", "")
        )
    array = ZarrArray(files, layout)
    array.verify_last_chunk()
    numbers: np.ndarray = array.read(0, len(array)).astype(np.int64)
    return numbers


def read_episode_numbers(
    files: Tree, metadata: StoreMetadata, n_episodes: int
) -> dict[str, np.ndarray]:
    """The lists of meta/ with an integer for each episode, by name.

    Raises DataError for one that is not sound; what other tools keep there is left out.
    """
    found: dict[str, np.ndarray] = {}
    for name in names_of_numbers(files):
        try:
            numbers = read_numbers(files, f"meta/{name}")
            if numbers is not None and len(numbers) != n_episodes:
                raise DataError(
                    f"{files.path}: meta/{name} has {len(numbers)} numbers, and there are "
                    f"{n_episodes} episodes. Mend the list or remove it"
                )
        except DataError:
            if metadata.format:
                raise
            continue
        if numbers is not None:
            found[name] = numbers
    return found


def ends_problems(ends: np.ndarray) -> list[str]:
    """What is wrong with episode ends, one sentence each: they must increase from above 0."""
    if not len(ends):
        return [f"{ENDS} is empty: there are no episodes. Record some, or copy the dataset again"]
    starts = np.concatenate([[0], ends[:-1]])
    return [
        f"{ENDS} must increase, but episode {episode} ends at frame {ends[episode]} and begins at "
        f"{starts[episode]}. Mend the list: exclusive ends, in the order of the frames"
        for episode in np.flatnonzero(ends <= starts)
    ]


def length_problems(arrays: Mapping[str, LazyArray], ends: np.ndarray) -> dict[str, str]:
    """Arrays whose number of frames is not the last episode end, a sentence each."""
    frames = int(ends[-1]) if len(ends) else 0
    return {
        key: f"array {key!r} has {len(array)} frames, but the last episode ends at {frames}. "
        "Cut or restore the array, or mend the episode ends"
        for key, array in arrays.items()
        if len(array) != frames
    }
