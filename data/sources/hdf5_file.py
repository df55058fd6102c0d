"""HDF5 files that are not trusted: no link leaves the file, and no array lies outside it.

HDF5 can name other files in three ways: external links, external raw storage of an array, and
virtual arrays. All three are refused, on every group and array that is opened.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.hdf5_chunks import check_frames, chunk_problem, stored_chunks
from dipole.data.sources.source import EpisodeRef, first_frames, leave_out
from dipole.data.store.schema import FrameSchema, default_kind, stored_dtype
from dipole.data.store.tasks import TaskSpans

DEEPEST = 6  # groups within each other
MOST_ENTRIES = 1000  # of one episode
LARGEST_TEXT = 64 * 2**20  # bytes of an array of names
_MOST_LINKS = 16  # soft links that lead to each other
# What h5py raises where a file is damaged.
_DAMAGE = (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError, zlib.error)


class Hdf5File:
    """Groups and arrays of the HDF5 file at `path` by their names, "data/demo_0/actions"."""

    def __init__(self, path: Path) -> None:
        import h5py

        self.path = path
        self._sizes: tuple[str, dict[tuple[int, ...], int]] = ("", {})  # of the array read last
        try:
            self._file: Any = h5py.File(path, "r")
        except OSError as error:
            raise DataError(f"{path}: not a readable HDF5 file ({error}). Copy it again") from error

    def close(self) -> None:
        self._file.close()

    def group(self, name: str) -> Any | None:
        """The group, or None where there is none; "" is the file's root. Raises DataError where
        the way to it leaves the file."""
        import h5py

        found = self._object(name)
        return found if isinstance(found, h5py.Group) else None

    def attributes(self, name: str) -> dict[str, Any]:
        """The attributes of a group, {} where there is no group; those that cannot be read are
        left out."""
        group = self.group(name)
        if group is None:
            return {}
        values = {}
        with self._named(name):
            keys = list(group.attrs)
        for key in keys:
            try:
                values[key] = group.attrs[key]
            except _DAMAGE:
                continue
        return values

    def names(self, name: str) -> list[str]:
        """What is in a group, [] where there is no group."""
        group = self.group(name)
        with self._named(name):
            return [] if group is None else [str(key) for key in group]

    def array(self, name: str) -> Any | None:
        """The array, or None where there is none; raises DataError where it lies elsewhere."""
        import h5py

        found = self._object(name)
        if not isinstance(found, h5py.Dataset):
            return None
        with self._named(name):
            storage = found.id.get_create_plist()
            elsewhere = storage.get_external_count() or storage.get_layout() == h5py.h5d.VIRTUAL
            # Also whether its shape and dtype can be read, which is taken for granted afterwards.
            problem = chunk_problem(found) if (found.shape, found.dtype) else ""
        if elsewhere:
            raise DataError(
                f"{self.path}: {name} keeps its numbers in other files, which is refused. Copy "
                "them into the file (h5repack), or leave the key out"
            )
        if problem:
            raise DataError(f"{self.path}: {name} {problem}. Repack the file, or leave the key out")
        return found

    def arrays(self, name: str) -> Iterator[tuple[str, str, str]]:
        """Everything below a group: (name of the entry below the group, its place, why it is not
        taken), "" for arrays of numbers, which are.

        Raises DataError for more entries than any episode has.
        """
        for number, entry in enumerate(self._walk(name, DEEPEST)):
            if number >= MOST_ENTRIES:
                raise DataError(
                    f"{self.path}: {name or 'the root'} has more than {MOST_ENTRIES} entries, or "
                    "groups that hold each other: not an episode"
                )
            yield entry

    def _walk(self, name: str, depth: int) -> Iterator[tuple[str, str, str]]:
        for entry in self.names(name):
            place = f"{name}/{entry}".lstrip("/")
            try:
                array = self.array(place)
                group = None if array is not None else self.group(place)
            except DataError as error:
                yield entry, place, str(error)
                continue
            if array is not None:
                yield entry, place, _why_not(array)
            elif group is None:
                yield entry, place, "it is neither an array nor a group"
            elif not depth:
                yield entry, place, "it is nested too deeply"
            else:
                for inner, inner_place, why in self._walk(place, depth - 1):
                    yield f"{entry}/{inner}", inner_place, why

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop) of an array; raises DataError where they are not there."""
        array = self.array(name)
        if array is None:
            raise DataError(f"{self.path}: there is no {name}: leave the key out")
        with self._named(f"{name}, frames {start} to {stop - 1}"):
            if self._sizes[0] != name:
                self._sizes = name, stored_chunks(array)
            check_frames(array, start, stop, self._sizes[1])
            values: np.ndarray = array[start:stop]
        if len(values) != stop - start:
            raise DataError(f"{self.path}: {name}: {start + len(values)} frames of {stop}")
        return values

    def words(self, name: str) -> list[str] | None:
        """A list of texts; None where there is no such array, or of something else."""
        array = self.array(name)
        if array is None or array.ndim != 1 or array.dtype.kind not in "OS":
            return None
        if array.size * array.dtype.itemsize > LARGEST_TEXT:
            raise DataError(f"{self.path}: {name} has {array.size:,} entries, more than are read")
        return [_text(entry) for entry in self.read(name, 0, len(array))]

    @contextmanager
    def _named(self, place: str) -> Iterator[None]:
        """Raise DataError, naming the place, for what h5py raises at damage."""
        try:
            yield
        except _DAMAGE as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{self.path}: {place or 'its root'}: damaged ({error}). Copy the file again, or "
                "leave the episode out"
            ) from error

    def _object(self, name: str) -> Any | None:
        """What has this name, None where nothing has; raises DataError for damage."""
        with self._named(name):
            return self._follow(name)

    def _follow(self, name: str) -> Any | None:
        """Follow a name link by link, so that none leads out of the file."""
        import h5py

        waiting = [part for part in name.split("/") if part][::-1]
        at: list[Any] = [self._file]
        links = 0
        while waiting:
            part = waiting.pop()
            group = at[-1]
            if part == ".":
                continue
            if not isinstance(group, h5py.Group) or not group.id.links.exists(part.encode()):
                return None
            link = group.get(part, getlink=True)
            if isinstance(link, h5py.SoftLink):
                links += 1
                if links > _MOST_LINKS:
                    raise DataError(f"{self.path}: {name} is a link in a circle")
                if link.path.startswith("/"):
                    at = [self._file]
                waiting += [step for step in link.path.split("/") if step][::-1]
            elif isinstance(link, h5py.HardLink):
                at.append(group[part])
            else:
                raise DataError(
                    f"{self.path}: {name} is a link to another file, which is not followed. Copy "
                    "what it points to into the file, or leave the key out"
                )
        return at[-1]


def numbered(path: Path, names: list[str], prefix: str) -> dict[int, str]:
    """Of the names "demo_0", "demo_007" or "demo7": number → name, sorted; others are left out.

    Raises DataError where two names have one number.
    """
    found: dict[int, str] = {}
    for name in names:
        match = re.fullmatch(rf"{prefix}_?([0-9]+)", name)
        if match is None:
            continue
        number = int(match[1])
        if number in found:
            raise DataError(
                f"{path}: {found[number]} and {name} are both episode {number}: rename one of them"
            )
        found[number] = name
    return dict(sorted(found.items()))


def hdf5_frames(file: Hdf5File, group: str, places: Mapping[str, str]) -> dict[str, FrameSchema]:
    """The schemas of arrays, {key: place in the group}.

    float64 becomes float32, except for what float32 cannot tell apart.
    """
    frames = {}
    for key, place in places.items():
        array = file.array(f"{group}/{place}")
        if array is None:
            raise DataError(f"{file.path}: there is no {group}/{place}")
        dtype = array.dtype.newbyteorder("=")
        if dtype == np.float64:
            dtype = _narrowed(file, f"{group}/{place}", first_frames(array.shape))
        shape = tuple(int(n) for n in array.shape[1:])
        if key == "action" and not shape:
            shape = (1,)
        frames[key] = FrameSchema(shape, dtype, _kind(key, shape, dtype))
    return frames


def _narrowed(file: Hdf5File, name: str, n_frames: int) -> np.dtype[Any]:
    try:
        return stored_dtype(file.read(name, 0, n_frames))
    except DataError:  # said with its episode when that is read
        return np.dtype(np.float32)


def _kind(key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """A picture of one channel that is called depth is depth, in units that are not recorded."""
    flat = len(shape) == 3 and shape[2] == 1 and dtype in (np.float32, np.uint16)
    return "depth" if flat and "depth" in key.lower() else default_kind(key, shape, dtype)


class Hdf5Episode:
    """One episode of an HDF5 file; see `SourceEpisode`.

    group: Where it lies in the file.
    places: By key, where an array lies in the group.
    lengths: By key, how many frames its array must have; at least `ref.n_frames` are read.

    A key is checked when it is first read, so that one that is not taken stands in nobody's way:
    `read` raises DataError where its array is missing, or has another length or shape.
    """

    def __init__(
        self,
        file: Hdf5File,
        ref: EpisodeRef,
        group: str,
        places: Mapping[str, str],
        frames: Mapping[str, FrameSchema],
        lengths: Mapping[str, int],
        tasks: TaskSpans = (),
    ) -> None:
        self._file, self.ref, self.tasks = file, ref, tasks
        self.n_frames = ref.n_frames or 0
        self._places = {key: f"{group}/{place}".lstrip("/") for key, place in places.items()}
        self._frames, self._lengths = frames, lengths
        self._checked: set[str] = set()

    def _check(self, key: str) -> None:
        file, place = self._file, self._places[key]
        array = file.array(place)
        if array is None:
            raise DataError(f"{file.path}: there is no {place}: {leave_out(key)}")
        shape, length = self._frames[key].shape or (), self._lengths[key]
        if not array.ndim or (array.shape[1:] or (1,)) != (shape or (1,)):
            raise DataError(
                f"{file.path}: {place} has frames of shape {list(array.shape[1:])}, "
                f"{list(shape)} in the first episode: {leave_out(key)}"
            )
        if array.shape[0] != length:
            raise DataError(
                f"{file.path}: {place} has {array.shape[0]} frames, {length} expected "
                f"beside {self.n_frames} actions: {leave_out(key)}"
            )
        self._checked.add(key)

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        if key not in self._checked:
            self._check(key)
        frames = self._file.read(self._places[key], start, stop)
        return frames.reshape(stop - start, *(self._frames[key].shape or ()))

    def clip(self, key: str) -> None:
        return None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _why_not(array: Any) -> str:
    if array.dtype.kind not in "biuf":
        return f"{'text or objects' if array.dtype.kind in 'OSU' else array.dtype}, not numbers"
    if not array.ndim:
        return "a single number, not one a frame"
    return ""
