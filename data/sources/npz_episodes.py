"""A folder of .npz files as a source, one episode a file: arrays [frames, ...] by key.

`action` and `actions` become `action`; observation/<key> and obs/<key> become <key>. Arrays of
objects are never loaded, because that would execute what the file says.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from dipole.data.core.errors import DataError
from dipole.data.sources.source import (
    EpisodeRef,
    SourceEpisode,
    SourceInfo,
    TaskSpans,
    is_valid_key,
)
from dipole.data.store.schema import FrameSchema, is_image

LARGEST_ARRAY = 8 * 2**30  # bytes, decompressed
COUNTED = ("is_first", "is_last", "is_terminal")
_REPORTED = (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError)


def find_episodes(path: Path) -> list[Path]:
    """The .npz files at a path, sorted by name."""
    return [path] if path.is_file() and path.suffix == ".npz" else sorted(path.glob("*.npz"))


class NpzSource:
    """Reads the .npz files at `path`; see `Source`."""

    def __init__(self, path: Path) -> None:
        self._files = find_episodes(path)
        if not self._files:
            raise DataError(f"{path}: no .npz files in it")
        self._refs = [EpisodeRef(n, name=file.name) for n, file in enumerate(self._files)]
        headers = read_headers(self._files[0])
        self._places: dict[str, str] = {}
        frames: dict[str, FrameSchema] = {}
        left_out: dict[str, str] = {}
        for name, (shape, dtype) in headers.items():
            key = _key(name)
            if key in COUNTED:
                continue
            if dtype.kind not in "biuf" or not shape:
                left_out[name] = f"{dtype} {list(shape)}: not numbers [frames, ...]"
            elif key in self._places or not is_valid_key(key):
                left_out[name] = f"no key can be called {key!r}, or one is already"
            else:
                self._places[key], frames[key] = name, _schema(key, shape[1:], dtype)
        self.info = SourceInfo(path, "episodes in .npz files", frames, left_out=left_out)

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        return _Episode(self._files[ref.id], ref, self._places, self.info.frames)

    def close(self) -> None:
        pass


class _Episode:
    """One file; an array is loaded when it is first read, and kept until the next one is."""

    def __init__(
        self,
        file: Path,
        ref: EpisodeRef,
        places: Mapping[str, str],
        frames: Mapping[str, FrameSchema],
    ) -> None:
        self._file, self.ref, self._places, self._frames = file, ref, places, frames
        self.tasks: TaskSpans = ()
        headers = read_headers(file)
        lengths = {}
        for key, name in places.items():
            if name not in headers:
                raise DataError(f"{file}: no array {name!r}. Leave the episode or the key out")
            shape, dtype = headers[name]
            if (shape[1:] or (1,)) != (frames[key].shape or (1,)) or dtype.kind not in "biuf":
                raise DataError(
                    f"{file}: {name!r} is {dtype} {list(shape)}, frames of "
                    f"{list(frames[key].shape or ())} in the first episode"
                )
            lengths[key] = shape[0]
        if len(set(lengths.values())) > 1:
            raise DataError(
                f"{file}: its arrays have different numbers of frames: {lengths}. Leave the "
                "episode or a key out"
            )
        self.n_frames = next(iter(lengths.values()), 0)
        self._loaded: tuple[str, np.ndarray] | None = None

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = (key, _load(self._file, self._places[key]))
        frames = self._loaded[1][start:stop]
        return frames.reshape(stop - start, *(self._frames[key].shape or ()))

    def clip(self, key: str) -> None:
        return None


def read_headers(file: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and dtype of each array of an .npz file; raises DataError where it is damaged."""
    headers = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy"):
                    continue
                with archive.open(entry) as member:
                    shape, dtype = _header(member)
                size = int(np.prod(shape, dtype=object)) * dtype.itemsize
                if size > LARGEST_ARRAY or entry.file_size > LARGEST_ARRAY + 2**16:
                    raise ValueError(f"{entry.filename} has {size:,} bytes, too many")
                headers[entry.filename.removesuffix(".npy")] = (shape, dtype)
    except _REPORTED as error:
        raise DataError(f"{file}: cannot be read ({error}). Copy it again") from error
    return headers


def _header(member: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(member)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(member)
    return tuple(shape), dtype


def _load(file: Path, name: str) -> np.ndarray:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            loaded: np.ndarray = arrays[name]
            return loaded
    except (*_REPORTED, KeyError) as error:
        raise DataError(f"{file}, {name!r}: cannot be read ({error}). Copy it again") from error


def _key(name: str) -> str:
    for prefix in ("observation/", "observations/", "obs/"):
        name = name.removeprefix(prefix)
    return "action" if name in ("action", "actions") else name.replace("/", ".")


def _schema(key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> FrameSchema:
    stored = np.dtype(np.float32) if dtype == np.float64 else dtype.newbyteorder("=")
    if key == "action":
        return FrameSchema(shape or (1,), stored, "action")
    return FrameSchema(shape, stored, "image" if is_image(shape, stored) else "state")
