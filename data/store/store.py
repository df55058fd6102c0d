"""The episode store: demonstrations end to end in flat arrays.

    data/state         [frames, 5]    episode 0 | episode 1 | episode 2 ...
    data/action        [frames, 2]
    meta/episode_ends  [episodes]     where each one ends, exclusive
    videos/camera/     one file an episode, where a camera is stored as video

A zarr group in a folder or a zip. Version 2 is the layout of Diffusion Policy and read as it
stands; version 3 is what `EpisodeWriter` writes. docs/data-format.md is the format on one page.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.bundle import dataset_path
from dipole.data.store.fingerprint import fingerprint, legacy_fingerprint
from dipole.data.store.lazy_array import LazyArray
from dipole.data.store.metadata import StoreMetadata
from dipole.data.store.objects.url import DatasetPath
from dipole.data.store.reading import (
    ends_problems,
    length_problems,
    no_arrays,
    read_arrays,
    read_episode_ends,
    read_episode_numbers,
    read_store_metadata,
    read_tasks,
    read_videos,
    refuse_claimed_fill,
    unknown_key,
)
from dipole.data.store.schema import default_kind
from dipole.data.store.tasks import TaskSpans, TaskTable
from dipole.data.store.zarr.tree import Tree, open_tree


class EpisodeStore:
    """A dataset of episodes, read-only; made by `EpisodeStore.open`.

    path: where it lies; arrays: by key; episode_ends: int64 [episodes], exclusive; attributes: what
    the dataset says of itself (schema, fps, environment), empty for the Diffusion Policy layout;
    tasks: for each episode what was to be done first, in words, "" where that is not recorded;
    task_words: all words, which `task_numbers` counts in; unreadable: for each key that cannot be
    read the reason; files: the dataset's.
    """

    def __init__(
        self,
        files: Tree,
        metadata: StoreMetadata,
        arrays: Mapping[str, LazyArray],
        episode_ends: np.ndarray,
        tasks: TaskTable,
        unreadable: Mapping[str, str],
        keys: tuple[str, ...] | None,
    ) -> None:
        self.path = files.path
        self.episode_ends = episode_ends
        self.arrays = dict(arrays)
        self.unreadable = dict(unreadable)
        self.attributes = dict(metadata.attributes)
        self.tasks = [tasks.words[number] for number in tasks.index]
        self.task_words = [*tasks.words]
        self.files = files
        self._metadata, self._tasks, self._keys = metadata, tasks, keys

    @classmethod
    def open(cls, path: str | DatasetPath, keys: Sequence[str] | None = None) -> "EpisodeStore":
        """Open the dataset at `path`: a folder, a zip, "bundled:NAME", or a place in object storage
        such as "s3://bucket/robot.zarr".

        keys: the arrays that are wanted, None for all that can be read. Raises DataError where
        there is no dataset, its metadata or episode ends are not sound, or a key of `keys` cannot
        be read. Without `keys`, arrays that cannot be read are `unreadable`, and an error when they
        are asked for. Arrays are read when they are indexed, and checked then.
        """
        files = open_tree(dataset_path(path))
        try:
            return cls._read(files, None if keys is None else tuple(dict.fromkeys(keys)))
        except BaseException:
            files.close()
            raise

    @classmethod
    def _read(cls, files: Tree, keys: tuple[str, ...] | None) -> "EpisodeStore":
        metadata = read_store_metadata(files)
        ends = read_episode_ends(files)
        problems = ends_problems(ends)
        if problems:
            raise DataError(f"{files.path}: {problems[0]}")
        in_data, in_videos = files.folders("data"), files.folders("videos")
        for key in keys or ():
            if key not in in_data and key not in in_videos:
                raise unknown_key(files.path, key, {*in_data, *in_videos})
        wanted = {*in_data, *in_videos} if keys is None else {*keys}
        arrays, bad_arrays = read_arrays(files, metadata, [k for k in in_data if k in wanted])
        videos, bad_videos = read_videos(
            files, metadata, ends, [k for k in in_videos if k in wanted]
        )
        found: dict[str, LazyArray] = {**arrays, **videos}
        unreadable = {**bad_arrays, **bad_videos}
        _move_unsound(files, metadata, found, unreadable, ends)
        _check_readable(files, found, unreadable, keys)
        tasks = read_tasks(files, metadata, ends)
        return cls(files, metadata, found, ends, tasks, unreadable, keys)

    def close(self) -> None:
        """Close the files; arrays that are read afterwards raise an error."""
        for array in self.arrays.values():
            array.close()
        self.files.close()

    def __enter__(self) -> "EpisodeStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker process opens the files itself."""
        return (EpisodeStore.open, (self.path, self._keys))

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
        return self._metadata.fps

    @property
    def environment(self) -> dict[str, Any]:
        """The `id` and `version` of the environment it was recorded in; empty where unknown."""
        return dict(self._metadata.environment)

    def keys(self) -> list[str]:
        """The keys that can be read, sorted."""
        return sorted(self.arrays)

    def __contains__(self, key: object) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> LazyArray:
        if key in self.arrays:
            return self.arrays[key]
        if key in self.unreadable:
            raise self._unreadable(key)
        raise unknown_key(self.path, key, {*self.arrays, *self.unreadable})

    def require_readable(self) -> None:
        """Raise DataError where a key cannot be read: for whoever wants all there are."""
        for key in self.unreadable:
            raise self._unreadable(key)

    def task_spans(self, episode: int) -> TaskSpans:
        """What was to be done in an episode: (first frame, words) for each span of its frames.

        Frames are counted in the episode, and the first span begins at 0; empty where no words are
        recorded. Raises IndexError for an episode that is not there.
        """
        number = range(self.n_episodes)[episode]
        stop = int(self.episode_ends[number])
        start = int(self.episode_ends[number - 1]) if number else 0
        return self._tasks.of_episode(number, start, stop)

    def task_numbers(self) -> np.ndarray:
        """For each frame the number of its task in `task_words`, int64 [frames]."""
        return self._tasks.by_frame(self.n_frames)

    def episode_numbers(self) -> dict[str, np.ndarray]:
        """Integers of whole episodes by name, int64 [episodes] each: `seed`, `success`, any other.

        Raises DataError for one that is damaged, or has another number of episodes.
        """
        return read_episode_numbers(self.files, self._metadata, self.n_episodes)

    def numbers_by_episode(self) -> list[dict[str, int]]:
        """The same, of each episode what it has."""
        lists = self.episode_numbers()
        return [
            {name: int(values[episode]) for name, values in lists.items()}
            for episode in range(self.n_episodes)
        ]

    def schema(self, key: str) -> dict[str, Any]:
        """What a frame of `key` is: kind (state, image, ...), shape, dtype, units or "".

        Units are one text, or a list of one for each entry of the last axis. Where it is said, also
        names (of a vector's entries) and storage ("video").
        """
        array = self[key]
        said = self._metadata.frames.get(key)
        kind = said.kind if said is not None else ""
        units = said.units if said is not None else ""
        schema: dict[str, Any] = {
            "kind": kind or default_kind(key, array.shape[1:], array.dtype),
            "shape": list(array.shape[1:]),
            "dtype": array.dtype.name,
            "units": units if isinstance(units, str) else [*units],
        }
        if said is not None and said.names:
            schema["names"] = [*said.names]
        if said is not None and said.storage:
            schema["storage"] = said.storage
        return schema

    def fingerprint(self) -> str:
        """A hash of all that the dataset holds, whichever keys were opened; see `fingerprint.py`.

        It does not depend on the path, nor on whether the same store is a folder or a zip.
        """
        with self._whole() as store:
            return fingerprint(store)

    def legacy_fingerprint(self) -> str:
        """The fingerprint that checkpoints of earlier versions hold."""
        with self._whole() as store:
            return legacy_fingerprint(store)

    def has_fingerprint(self, said: str | None) -> bool:
        """Whether a checkpoint, of any version, means this dataset by its fingerprint."""
        return said in (self.fingerprint(), self.legacy_fingerprint())

    def _whole(self) -> AbstractContextManager["EpisodeStore"]:
        """The store with all its keys."""
        return nullcontext(self) if self._keys is None else EpisodeStore.open(self.path)

    def _unreadable(self, key: str) -> DataError:
        others = ",".join(self.keys())
        return DataError(
            f"{self.unreadable[key]}. To use the rest of the dataset, leave {key!r} out: --keys "
            f"{others}".replace("..", ".")
        )


def _move_unsound(
    files: Tree,
    metadata: StoreMetadata,
    arrays: dict[str, LazyArray],
    unreadable: dict[str, str],
    ends: np.ndarray,
) -> None:
    """Take arrays that do not fit the episodes or the schema, or have no end, to `unreadable`."""
    of_other_length = length_problems(arrays, ends)
    if arrays and len(of_other_length) == len(arrays):
        raise DataError(f"{files.path}: {next(iter(of_other_length.values()))}")
    for key, problem in of_other_length.items():
        unreadable[key] = f"{files.path}: {problem}"
        del arrays[key]
    refuse_claimed_fill(arrays)
    for key, array in [*arrays.items()]:
        try:
            # A length that the metadata only claims has no last chunk: say so now, not at epoch 3.
            array.verify_last_chunk()
        except DataError as error:
            unreadable[key] = str(error)
            del arrays[key]
            continue
        for problem in metadata.problems(key, array.shape[1:], array.dtype):
            raise DataError(f"{files.path}: {problem}")


def _check_readable(
    files: Tree,
    arrays: Mapping[str, LazyArray],
    unreadable: Mapping[str, str],
    keys: tuple[str, ...] | None,
) -> None:
    for key in keys or ():
        if key in unreadable:
            raise DataError(unreadable[key])
    if not arrays:
        raise DataError(next(iter(unreadable.values()), no_arrays(files)))
