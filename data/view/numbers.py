"""States and actions of an episode as bytes for the page: exact, or lowest and highest of buckets.

    values of a key     [columns, frames]           where an episode is short enough
    or                  [2, columns, buckets]       the least and the greatest of `stride` frames

Numbers keep their precision (float32, or float64 where that would lose something). Bytes of equal
significance lie together, which is what makes them compress.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.store.store import EpisodeStore

MOST_COLUMNS = 64  # of a key that are plotted: the first ones
MOST_FRAMES = 8192  # shown one by one; a longer episode becomes half as many buckets


@dataclass(frozen=True)
class Series:
    """One key over one episode: bytes, and what the page must know to read them."""

    data: bytes
    dtype: str  # "f4" or "f8"
    stride: int  # frames in a bucket; 1: every frame as it is
    points: int  # frames, or buckets

    def to_dict(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "stride": self.stride, "points": self.points}


def read_series(store: EpisodeStore, key: str, start: int, stop: int) -> Series:
    """The first columns of `key` in frames [start, stop); raises DataError for unreadable ones."""
    stride = 1 if stop - start <= MOST_FRAMES else -(-(stop - start) // (MOST_FRAMES // 2))
    size = max(1, (16 * 2**20) // max(store[key].frame_bytes, 1) // stride) * stride
    pieces = [
        _reduced(flat_columns(store[key].read(at, min(at + size, stop))), stride)
        for at in range(start, stop, size)
    ]
    values = np.concatenate(pieces, axis=-1)  # [1 or 2, columns, points]
    single = values.astype("<f4")
    exact = np.array_equal(single.astype(np.float64), values, equal_nan=True)
    stored = single if exact else values.astype("<f8")
    return Series(_by_significance(stored), "f4" if exact else "f8", stride, values.shape[-1])


def flat_columns(frames: np.ndarray) -> np.ndarray:
    """Frames [N, ...] as float64 [N, columns], the first MOST_COLUMNS; infinities become NaN."""
    values = frames.reshape(len(frames), -1)[:, :MOST_COLUMNS].astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def packed(series: list[Series]) -> bytes:
    """All series of an episode, one after the other, compressed."""
    return zlib.compress(b"".join(one.data for one in series), 6)


def _reduced(values: np.ndarray, stride: int) -> np.ndarray:
    """Values [N, columns] as [1, columns, N], or as [2, columns, buckets] where stride > 1."""
    if stride == 1:
        return values.T[None]
    short = -len(values) % stride
    padded = np.pad(values, [(0, short), (0, 0)], constant_values=np.nan)
    buckets = padded.reshape(-1, stride, values.shape[1])
    empty = np.isnan(buckets).all(1)
    least = np.where(empty, np.nan, np.fmin.reduce(buckets, axis=1))
    most = np.where(empty, np.nan, np.fmax.reduce(buckets, axis=1))
    return np.stack([least.T, most.T])


def _by_significance(values: np.ndarray) -> bytes:
    contiguous = np.ascontiguousarray(values)
    return contiguous.view(np.uint8).reshape(-1, values.itemsize).T.tobytes()
