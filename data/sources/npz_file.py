"""A .npz file that is not trusted: frames of its arrays, decompressed as they are read.

An .npz is a zip of .npy files. Each is read from its beginning to its end, so that a file of a few
kilobytes that becomes gigabytes is never in memory whole.
"""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from dipole.data.core.errors import DataError
from dipole.data.core.zip_members import ZIP_ERRORS, check_member

LARGEST_ARRAY = 2**40  # bytes, decompressed; more is damage
LARGEST_WHOLE = 2**30  # bytes of an array in Fortran's order, whose frames do not lie together
_SKIPPED_AT_ONCE = 2**20  # bytes


@dataclass(frozen=True)
class NpzArray:
    """What an array of an .npz says of itself."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def is_numbers(self) -> bool:
        """Whether it holds numbers [frames, ...]."""
        return self.dtype.kind in "biuf" and len(self.shape) > 0

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class NpzFile:
    """The file at `path`. arrays: by their names. Raises DataError where it is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrays: dict[str, NpzArray] = {}
        self._open: tuple[str, Any, int] | None = None  # array, its bytes, frames that were read
        self._whole: tuple[str, np.ndarray] | None = None
        try:
            self._zip = zipfile.ZipFile(path)
            for entry in self._zip.infolist():
                if entry.filename.endswith(".npy"):
                    array = self._described(entry)
                    self.arrays[array.name] = array
        except (*ZIP_ERRORS, OSError) as error:
            raise DataError(f"{path}: cannot be read ({error}). Copy it again") from error

    def close(self) -> None:
        self._zip.close()

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop); raises DataError where they are damaged or not there."""
        array = self.arrays[name]
        try:
            return (
                self._read_whole(array)[start:stop]
                if array.fortran
                else self._read(array, start, stop)
            )
        except (*ZIP_ERRORS, OSError, MemoryError) as error:
            raise DataError(
                f"{self.path}, {name!r}, frames {start} to {stop - 1}: cannot be read ({error}). "
                "Copy it again"
            ) from error

    def _read(self, array: NpzArray, start: int, stop: int) -> np.ndarray:
        frame = math.prod(array.shape[1:]) * array.dtype.itemsize
        if self._open is None or self._open[0] != array.name or self._open[2] > start:
            self._open = (array.name, self._begin(array), 0)
        _, member, at = self._open
        self._open = None  # until this read has come to its end
        skipped = (start - at) * frame
        while skipped:
            skipped -= len(_exactly(member, min(skipped, _SKIPPED_AT_ONCE)))
        raw = _exactly(member, (stop - start) * frame)
        self._open = (array.name, member, stop)
        return np.frombuffer(raw, array.dtype).reshape(stop - start, *array.shape[1:])

    def _read_whole(self, array: NpzArray) -> np.ndarray:
        if self._whole is None or self._whole[0] != array.name:
            if array.n_bytes > LARGEST_WHOLE:
                raise ValueError(f"{array.n_bytes:,} bytes in Fortran's order: save it in C's")
            raw = _exactly(self._begin(array), array.n_bytes)
            values = np.frombuffer(raw, array.dtype).reshape(array.shape, order="F")
            self._whole = (array.name, values)
        return self._whole[1]

    def _begin(self, array: NpzArray) -> Any:
        """The array's file behind its header."""
        member = self._zip.open(f"{array.name}.npy")
        _header(member)
        return member

    def _described(self, entry: zipfile.ZipInfo) -> NpzArray:
        check_member(entry)
        with self._zip.open(entry) as member:
            shape, fortran, dtype = _header(member)
        array = NpzArray(entry.filename.removesuffix(".npy"), tuple(shape), dtype, fortran)
        if array.n_bytes > LARGEST_ARRAY or min(array.shape, default=0) < 0:
            raise ValueError(f"{entry.filename} has {array.n_bytes:,} bytes, too many")
        if array.is_numbers and entry.file_size < array.n_bytes:
            raise ValueError(f"{entry.filename} is cut short, or claims more than it has")
        return array


def _header(member: Any) -> tuple[Any, bool, Any]:
    version = npy.read_magic(member)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(member)
    return shape, bool(fortran), dtype


def _exactly(member: Any, n_bytes: int) -> bytes:
    """This many bytes; raises ValueError where there are fewer."""
    raw: bytes = member.read(n_bytes)
    if len(raw) < n_bytes:
        raise ValueError("it is cut short")
    return raw
