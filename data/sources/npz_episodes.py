"""A folder of .npz files as a source, one episode a file: arrays [frames, ...] by key.

`action` and `actions` become `action`; observation/<key> and obs/<key> become <key>. Arrays of
objects are never loaded, because that would execute what the file says.
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.npz_file import NpzArray, NpzFile
from dipole.data.sources.registry import sorted_by_number
from dipole.data.sources.source import (
    EpisodeRef,
    SourceEpisode,
    SourceInfo,
    SourceWarnings,
    first_frames,
    frames_of,
    is_valid_key,
    leave_out,
)
from dipole.data.store.schema import FrameSchema, default_kind, stored_dtype
from dipole.data.store.tasks import TaskSpans

COUNTED = ("is_first", "is_last", "is_terminal")


def find_episodes(path: Path) -> list[Path]:
    """The .npz files at a path, sorted by name, numbers in names by their size."""
    if path.is_file() and path.suffix == ".npz":
        return [path]
    return sorted_by_number(path.glob("*.npz"))


class NpzSource(SourceWarnings):
    """Reads the .npz files at `path`; see `Source`."""

    def __init__(self, path: Path) -> None:
        self._files = find_episodes(path)
        if not self._files:
            raise DataError(f"{path}: no .npz files in it")
        self._refs = [EpisodeRef(n, name=file.name) for n, file in enumerate(self._files)]
        self._places: dict[str, str] = {}
        frames: dict[str, FrameSchema] = {}
        left_out: dict[str, str] = {}
        with closing(NpzFile(self._files[0])) as first:
            for name, array in first.arrays.items():
                key = _key(name)
                if key in COUNTED:
                    continue
                if not array.is_numbers:
                    left_out[name] = f"{array.dtype} {list(array.shape)}: not numbers [frames, ...]"
                elif key in self._places:
                    left_out[name] = f"a key is called {key!r} already"
                else:
                    self._places[key], frames[key] = name, _schema(first, key, array)
            self._known = set(first.arrays)
        super().__init__(SourceInfo(path, "episodes in .npz files", frames, left_out=left_out))

    def only(self, keys: Sequence[str]) -> "NpzSource":
        """The same with these keys only: the others' arrays may be of any length, or missing."""
        other = copy.copy(self)
        other._info = replace(self._info, frames=frames_of(self._info, keys), left_out={})
        return other

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        """Raises DataError where an array is missing or has another shape, or lengths differ."""
        file = NpzFile(self._files[ref.id])
        self.warn_of_others(file.arrays, self._known)
        places = {key: self._places[key] for key in self._info.frames}
        return _Episode(file, ref, places, self._info.frames)

    def close(self) -> None:
        pass


class _Episode:
    """One file, closed with the episode."""

    def __init__(
        self,
        file: NpzFile,
        ref: EpisodeRef,
        places: Mapping[str, str],
        frames: Mapping[str, FrameSchema],
    ) -> None:
        self._file, self.ref, self._places, self._frames = file, ref, places, frames
        self.tasks: TaskSpans = ()
        # Those of odd names are left out, unless they are renamed.
        keys = [key for key in places if is_valid_key(key)] or [*places]
        lengths = {key: self._length(key) for key in keys}
        every = [*lengths.values()]
        self.n_frames = lengths.get("action", max(every, key=every.count, default=0))
        odd = [key for key, length in lengths.items() if length != self.n_frames]
        if odd:
            others = ",".join(key for key in lengths if key not in odd)
            raise DataError(
                f"{file.path}: its arrays have different numbers of frames: "
                f"{self._places[odd[0]]!r} has {lengths[odd[0]]}, {self.n_frames} expected. Leave "
                f"the episode out, or take the other keys: --keys {others}"
            )

    def _length(self, key: str) -> int:
        """Frames of an array; raises DataError where it is not as in the first episode."""
        file, name, shape = self._file, self._places[key], self._frames[key].shape or ()
        array = file.arrays.get(name)
        if array is None:
            raise DataError(f"{file.path}: no array {name!r}: {leave_out(key)}")
        if (array.shape[1:] or (1,)) != (shape or (1,)) or not array.is_numbers:
            raise DataError(
                f"{file.path}: {name!r} is {array.dtype} {list(array.shape)}, frames of "
                f"{list(shape)} in the first episode: {leave_out(key)}"
            )
        return int(array.shape[0])

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        if not is_valid_key(key) and self._length(key) != self.n_frames:
            raise DataError(
                f"{self._file.path}: {self._places[key]!r} has {self._length(key)} frames, "
                f"{self.n_frames} expected: {leave_out(key)}"
            )
        frames = self._file.read(self._places[key], start, stop)
        return frames.reshape(stop - start, *(self._frames[key].shape or ()))

    def clip(self, key: str) -> None:
        return None


def _key(name: str) -> str:
    for prefix in ("observation/", "observations/", "obs/"):
        name = name.removeprefix(prefix)
    return "action" if name in ("action", "actions") else name.replace("/", ".")


def _schema(file: NpzFile, key: str, array: NpzArray) -> FrameSchema:
    dtype, shape = array.dtype.newbyteorder("="), array.shape[1:]
    if dtype == np.float64:
        dtype = stored_dtype(file.read(array.name, 0, first_frames(array.shape)))
    shape = shape or (1,) if key == "action" else shape
    return FrameSchema(shape, dtype, default_kind(key, shape, dtype))
