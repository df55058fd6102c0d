"""The episode store: demonstrations end to end in flat arrays.

    data/state         [frames, 5]    episode 0 | episode 1 | episode 2 ...
    data/action        [frames, 2]
    meta/episode_ends  [episodes]     where each one ends, exclusive
    videos/camera/     one file an episode, where a camera is stored as video

A zarr group in a folder or a zip. Version 2 is the layout of Diffusion Policy and read as it
stands; version 3 is what `EpisodeWriter` writes. docs/data-format.md is the format on one page.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.registry import nearest
from dipole.data.store.bundle import dataset_path
from dipole.data.store.lazy_array import LazyArray
from dipole.data.store.video_array import VideoArray
from dipole.data.store.zarr.layout import read_layout
from dipole.data.store.zarr.tree import Tree, open_tree, read_metadata
from dipole.data.store.zarr_array import ChunkCache, ZarrArray

ENDS = "meta/episode_ends"
TASKS = "meta/task_index"


class EpisodeStore:
    """A dataset of episodes, read-only; made by `EpisodeStore.open`.

    path: where it lies; arrays: by key; episode_ends: int64 [episodes], exclusive; attributes: what
    the dataset says of itself (schema, fps, environment), empty for the Diffusion Policy layout;
    tasks: for each episode what was to be done, in words, "" where that is not recorded.
    """

    def __init__(
        self,
        path: Path,
        arrays: Mapping[str, LazyArray],
        episode_ends: np.ndarray,
        attributes: dict[str, Any],
        tasks: list[str] | None = None,
    ) -> None:
        self.path = path
        self.tasks = [""] * len(episode_ends) if tasks is None else tasks
        self.episode_ends = episode_ends
        self.attributes = attributes
        self.arrays = dict(arrays)

    @classmethod
    def open(cls, path: str | Path) -> "EpisodeStore":
        """Open the dataset at `path`: a folder, a zip, or "bundled:NAME".

        Raises DataError where there is none, or its files, metadata or episode ends are not sound.
        Arrays are read when they are indexed, and checked then.
        """
        found = dataset_path(path)
        files = open_tree(found)
        attributes = read_attributes(files)
        ends = read_episode_ends(files)
        arrays: dict[str, LazyArray] = {
            **read_arrays(files),
            **read_videos(files, attributes, ends),
        }
        problems = [*ends_problems(ends), *length_problems(arrays, ends)]
        if problems:
            raise DataError(f"{found}: {problems[0]}")
        for array in arrays.values():
            # A length that the metadata only claims has no last chunk: say so now, not at epoch 3.
            array.verify_last_chunk()
        return cls(found, arrays, ends, attributes, read_tasks(files, attributes, len(ends)))

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker process opens the files itself."""
        return (EpisodeStore.open, (self.path,))

    def __repr__(self) -> str:
        return (
            f"EpisodeStore({str(self.path)!r}: {self.n_episodes} episodes, {self.n_frames} frames)"
        )

    @property
    def n_episodes(self) -> int:
        return len(self.episode_ends)

    @property
    def n_frames(self) -> int:
        return int(self.episode_ends[-1])

    @property
    def episode_starts(self) -> np.ndarray:
        """First frame of each episode, int64 [episodes]."""
        return np.concatenate([[0], self.episode_ends[:-1]]).astype(np.int64)

    @property
    def fps(self) -> float | None:
        """Frames per second, where the dataset says it."""
        fps = self.attributes.get("fps")
        return None if fps is None else float(fps)

    @property
    def environment(self) -> dict[str, Any]:
        """The `id` and `version` of the environment it was recorded in; empty where unknown."""
        return dict(self.attributes.get("environment") or {})

    def keys(self) -> list[str]:
        return sorted(self.arrays)

    def __contains__(self, key: object) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> LazyArray:
        if key not in self.arrays:
            raise DataError(
                f"{self.path}: no array {key!r}{nearest(key, self.arrays) or '.'} "
                f"It has: {', '.join(self.keys())}"
            )
        return self.arrays[key]

    def schema(self, key: str) -> dict[str, Any]:
        """What a frame of `key` is: kind (state, image, action), shape, dtype, units or "".

        Units are one text, or a list of one for each entry of the last axis. Where it is said, also
        names (of a vector's entries) and storage ("video").
        """
        array = self[key]
        said = (self.attributes.get("schema") or {}).get(key, {})
        image = array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] in (1, 3, 4)
        kind = "action" if key == "action" else "image" if image else "state"
        return {
            "kind": str(said.get("kind", kind)),
            "shape": list(array.shape[1:]),
            "dtype": array.dtype.name,
            "units": _units(said.get("units")),
            **{name: said[name] for name in ("names", "storage") if said.get(name)},
        }

    def fingerprint(self) -> str:
        """A hash that tells datasets apart, from what they say of themselves and three frames.

        It does not depend on the path, nor on whether the same store is a folder or a zip.
        """
        schema = {key: self.schema(key) for key in self.keys()}
        said = [schema, self.fps, self.environment, *([self.tasks] if any(self.tasks) else [])]
        digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
        digest.update(self.episode_ends.astype("<i8").tobytes())
        for key in self.keys():
            frames = self[key].take(np.array([0, self.n_frames // 2, self.n_frames - 1]))
            digest.update(np.ascontiguousarray(frames, frames.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()[:16]


def _units(said: Any) -> str | list[str]:
    return [str(unit) for unit in said] if isinstance(said, list) else str(said or "")


def read_attributes(files: Tree) -> dict[str, Any]:
    """The attributes of the root group; raises DataError where `files` holds no zarr group."""
    v3 = read_metadata(files, "zarr.json")
    v2 = read_metadata(files, ".zgroup")
    if v3 is None and v2 is None:
        inside = [name for name in files.folders("") if files.size(f"{name}/.zgroup") is not None]
        inside += [
            name for name in files.folders("") if files.size(f"{name}/zarr.json") is not None
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
        attributes = said.get("attributes", {}) if v3 is not None else said
        return check_attributes(attributes)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        name = "zarr.json" if v3 is not None else ".zattrs"
        raise DataError(
            f"{files.path}: {name} is not valid ({error}). Restore it, or write the dataset again"
        ) from error


def check_attributes(attributes: Any) -> dict[str, Any]:
    """The attributes themselves; raises ValueError where they are not of the documented form."""
    if not isinstance(attributes, dict):
        raise ValueError("its attributes are not an object")
    for name in ("schema", "environment"):
        if not isinstance(attributes.get(name) or {}, dict):
            raise ValueError(f"attribute {name!r} is {attributes[name]!r}, not an object")
    for key, entry in (attributes.get("schema") or {}).items():
        if not isinstance(entry, dict):
            raise ValueError(f"the schema of {key!r} is {entry!r}, not an object")
    fps = attributes.get("fps")
    sound = fps is None or (type(fps) in (int, float) and 0 < fps < float("inf"))
    if not sound:
        raise ValueError(f"attribute 'fps' is {fps!r}, not a positive number")
    return attributes


def read_arrays(files: Tree) -> dict[str, ZarrArray]:
    """The arrays under data/ by their key; raises DataError where there is none."""
    cache = ChunkCache()
    arrays = {}
    for key in files.folders("data"):
        layout = read_layout(files, f"data/{key}")
        if layout is not None:
            arrays[key] = ZarrArray(files, layout, cache)
    if not arrays:
        raise DataError(no_arrays(files))
    return arrays


def read_videos(files: Tree, attributes: dict[str, Any], ends: np.ndarray) -> dict[str, VideoArray]:
    """The cameras under videos/ by their key; raises DataError where one is not described."""
    videos = {}
    for key in files.folders("videos"):
        said = (attributes.get("schema") or {}).get(key, {})
        picture = said.get("shape")
        sound = isinstance(picture, list) and len(picture) == 3 and picture[2] == 3
        if not sound or not all(type(n) is int and 0 < n < 2**15 for n in picture):
            raise DataError(
                f"{files.path}: videos/{key}, but the schema says shape {picture!r} of it: "
                "[height, width, 3] is needed"
            )
        first_frames = read_numbers(files, f"videos/{key}/first_frame")
        if first_frames is None or len(first_frames) != len(ends) or (first_frames < 0).any():
            raise DataError(
                f"{files.path}: videos/{key}/first_frame must have a number for each of "
                f"{len(ends)} episodes. Copy or convert the dataset again"
            )
        videos[key] = VideoArray(files, key, tuple(picture), ends, first_frames)
    return videos


def read_tasks(files: Tree, attributes: dict[str, Any], n_episodes: int) -> list[str] | None:
    """What was to be done in each episode, or None where nothing is recorded; raises DataError."""
    words, numbers = attributes.get("tasks"), read_numbers(files, TASKS)
    if words is None and numbers is None:
        return None
    if (
        not isinstance(words, list)
        or not all(isinstance(word, str) for word in words)
        or numbers is None
        or len(numbers) != n_episodes
    ):
        raise DataError(
            f"{files.path}: tasks are the attribute `tasks`, a list of words, and {TASKS}, a "
            f"number for each of {n_episodes} episodes. One of them is absent or another"
        )
    outside = np.flatnonzero((numbers < 0) | (numbers >= len(words)))
    if len(outside):
        episode = int(outside[0])
        raise DataError(
            f"{files.path}: {TASKS} says task {numbers[episode]} of episode {episode}, but there "
            f"are {len(words)} tasks. Mend the list"
        )
    return [words[number] for number in numbers.tolist()]


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


def read_numbers(files: Tree, name: str) -> np.ndarray | None:
    """A list of integers as int64 [N], None where there is none; raises DataError for others."""
    layout = read_layout(files, name)
    if layout is None:
        return None
    if len(layout.shape) != 1 or layout.dtype.kind not in "iu":
        raise DataError(
            f"{files.path}: {name} is {layout.dtype} of shape {list(layout.shape)}, "
            "not a list of integers: write it as int64 [episodes]"
        )
    array = ZarrArray(files, layout)
    array.verify_last_chunk()
    numbers: np.ndarray = array.read(0, len(array)).astype(np.int64)
    return numbers


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


def length_problems(arrays: Mapping[str, LazyArray], ends: np.ndarray) -> list[str]:
    """Arrays whose number of frames is not the last episode end, one sentence each."""
    frames = int(ends[-1]) if len(ends) else 0
    return [
        f"array {key!r} has {len(array)} frames, but the last episode ends at {frames}. "
        "Cut or restore the array, or mend the episode ends"
        for key, array in arrays.items()
        if len(array) != frames
    ]
