"""Frames on the disk that index as numpy would: what arrays and videos have in common."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class LazyArray(ABC):
    """An array [frames, ...] whose frames are read when it is indexed.

    name: the key; chunk_length: frames that are decoded together at least; n_chunks: of them.
    Reading raises DataError, naming the array and the frames, where something is missing or
    damaged.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_length: int
    n_chunks: int

    @abstractmethod
    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop) as a new array [stop - start, ...]; IndexError beyond the end."""

    @abstractmethod
    def take(self, frames: np.ndarray) -> np.ndarray:
        """The frames with these numbers, int [...], as an array [..., *frame shape].

        Each frame is decoded once, however often it is asked for.
        """

    @abstractmethod
    def chunk_error(self, block: int) -> str | None:
        """What is wrong with the files of a block, as far as seen without decoding it."""

    @abstractmethod
    def verify_last_chunk(self) -> None:
        """Raise DataError where the last frames are claimed, but absent."""

    def prefetch(self, frames: np.ndarray) -> None:  # noqa: B027  nothing to do on a local disk
        """Have the frames with these numbers, int [N], fetched in the background, where they are
        in object storage."""

    def close(self) -> None:  # noqa: B027  nothing to do for most
        """Close files that are open for it alone."""

    @property
    def file_length(self) -> int:
        """Frames that lie in one file, at most or on average."""
        return self.chunk_length

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame in memory, decoded."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array in memory, decoded."""
        return self.shape[0] * self.frame_bytes

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, shape={self.shape}, dtype={self.dtype})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(f"{self!r} is on disk: reading it makes a copy")
        array = self.read(0, len(self))
        return array if dtype is None else array.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        if isinstance(first, int | np.integer):
            frame = range(len(self))[first]  # IndexError and negative numbers as for any sequence
            return self.read(frame, frame + 1)[(0, *rest)]
        if isinstance(first, slice):
            start, stop, step = first.indices(len(self))
            if step > 0:
                return self.read(start, max(start, stop))[(slice(None, None, step), *rest)]
            return self.take(np.arange(start, stop, step))[(slice(None), *rest)]
        if first is Ellipsis or first is None or (isinstance(first, tuple) and not first):
            return self.read(0, len(self))[key]
        if not all(isinstance(index, slice | int | np.integer) for index in rest):
            raise IndexError(f"{self!r}: choose frames first, then index the array that comes")
        frames = np.arange(len(self))[first]
        return self.take(frames)[(slice(None),) * frames.ndim + rest]

    def _check_range(self, start: int, stop: int) -> None:
        """Raise IndexError unless the frames [start, stop) are there."""
        if start < 0 or stop > len(self):
            raise IndexError(f"frames {start} to {stop} of {len(self)} in {self.name!r}")

    def _wanted(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frame numbers, flat and sorted, and where each belongs; raises IndexError outside."""
        flat = np.asarray(frames, np.int64).ravel()
        order = np.argsort(flat, kind="stable")
        wanted = flat[order]
        if len(wanted) and (wanted[0] < 0 or wanted[-1] >= len(self)):
            raise IndexError(f"frames {wanted[0]} to {wanted[-1]} of {len(self)} in {self.name!r}")
        return wanted, order
