"""Pictures that are not stored as uint8: whole numbers from 0 to 255, or fractions from 0 to 1.

Some datasets, the first one of Push-T among them, hold pictures as float32. Which of the two ranges
it is, is decided once for an array from some of its frames; then every frame that is read must fit.
"""

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.lazy_array import LazyArray

SAMPLED = 8  # frames, evenly spread, from which the range is decided
# Furthest from a whole number of 255ths; half precision keeps fractions up to 1 to 0.06 of one.
_TOLERANCE = {255: 1e-3, 1: 0.1}


def image_range(array: LazyArray) -> int | None:
    """The largest value of the pictures' range, 255 or 1; None where the frames are no pictures.

    Frames without a value above 1 are fractions, unless they are all 0 or 1, which says neither.
    """
    if array.dtype == np.uint8:
        return 255
    if array.dtype.kind not in "fiu" or array.ndim != 4 or not len(array):
        return None
    frames = array.take(np.unique(np.linspace(0, len(array) - 1, SAMPLED).astype(np.int64)))
    largest = frames.max()
    for top in (255, 1):
        fits = array.dtype.kind != "f" or (largest > 1) == (top == 255)
        if fits and not _misfits(frames, top).any():
            says_neither = array.dtype.kind == "f" and np.isin(frames, (0, 1)).all()
            return None if says_neither else top
    return None


def looks_like_images(array: LazyArray) -> bool:
    """Whether an array that is not uint8 holds colour pictures, by its shape and values."""
    by_shape = array.ndim == 4 and array.shape[-1] in (3, 4) and min(array.shape[1:3]) >= 8
    return by_shape and array.dtype.kind == "f" and image_range(array) is not None


def as_uint8(frames: np.ndarray, top: int) -> np.ndarray:
    """frames [N, ...] with values from 0 to top as uint8; raises DataError for others."""
    if frames.dtype == np.uint8:
        return frames
    misfits = _misfits(frames, top)
    if misfits.any():
        value = frames[misfits].ravel()[0]
        meant = "whole numbers from 0 to 255" if top == 255 else "255ths from 0 to 1"
        raise DataError(
            f"a value of {value:g} in pictures stored as {frames.dtype}; all others are "
            f"{meant}. Convert the dataset to uint8, or mend the recording"
        )
    return np.rint(frames.astype(np.float32) * (255 // top)).astype(np.uint8)


def _misfits(frames: np.ndarray, top: int) -> np.ndarray:
    """Which values are no picture's, bool; NaN is none."""
    levels = frames.astype(np.float32) * (255 // top)
    with np.errstate(invalid="ignore"):  # an infinite one is no level
        near = np.abs(levels - np.rint(levels)) <= _TOLERANCE[top]
    return ~(near & (levels >= -_TOLERANCE[top]) & (levels <= 255 + _TOLERANCE[top]))
