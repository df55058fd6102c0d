"""Which float64 numbers need it: those whose steps vanish in float32.

float32 has 24 bits: at 4,649,776 m (UTM) its numbers are 0.5 apart, at 1.7e9 s (since 1970) 128.
"""

from typing import Any

import numpy as np

LEVELS = 1000  # numbers of float32 within a column's extent, below which steps between frames go
FINEST = 1e-6  # the spacing of float32 from which on it matters, that of numbers above 8,
LEAST = 1e-5  # and the extent: what varies by less, stands still


def is_float64(dtype: np.dtype[Any]) -> bool:
    """Whether it is float64, of either order of bytes."""
    return dtype.newbyteorder("=") == np.float64


def coarse_columns(
    low: np.ndarray, high: np.ndarray, levels: int = LEVELS, least: float = LEAST
) -> np.ndarray:
    """Which columns, from low to high [...], float32 tells apart in fewer than `levels` numbers.

    least: Extent of a column below which it stands still.

    >>> coarse_columns(np.array([0.0, 4649776.0]), np.array([20.0, 4649796.0])).tolist()
    [False, True]
    """
    size = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(over="ignore", invalid="ignore"):  # infinities
        extent = high - low
        spacing = np.spacing(size.astype(np.float32)).astype(np.float64)
        coarse = (spacing >= FINEST) & (spacing * levels > extent)
    return np.asarray(coarse & (extent >= least) & np.isfinite(extent))


def loses_precision(values: np.ndarray, levels: int = LEVELS, least: float = LEAST) -> bool:
    """Whether float32 cannot tell the numbers of a column [N, ...] apart, as of time stamps.

    True for float64 of which a column is coarse, see `coarse_columns`, or rises with every frame
    and would lose a tenth of its steps or more.

    >>> loses_precision(1.7e9 + np.arange(4)[:, None] / 30), loses_precision(np.arange(4.0) / 30)
    (True, False)
    """
    if not is_float64(values.dtype) or not len(values):
        return False
    columns = values.reshape(len(values), -1)
    coarse = coarse_columns(columns.min(0), columns.max(0), levels, least)
    return bool(coarse.any()) or _loses_rising_steps(columns)


def steps_vanish(values: np.ndarray) -> bool:
    """Whether steps of float64 numbers [N, ...] are lost where they are stored as float32, although
    it was decided to store them so.

    Less strict than `loses_precision`, so that what hardly moves is no error; and numbers that
    float32 holds as they are lose nothing.
    """
    if not is_float64(values.dtype) or not len(values):
        return False
    columns = values.reshape(len(values), -1)
    return loses_precision(columns[:, rounded_columns(columns)], 32, 1e-3)


def rounded_columns(columns: np.ndarray) -> np.ndarray:
    """Which columns of [N, columns] have numbers that float32 does not hold as they are, bool."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray((columns != columns.astype(np.float32)).any(0))


def _loses_rising_steps(columns: np.ndarray) -> bool:
    """Of stamps that rise by 1e-6 in the median or more."""
    if len(columns) < 2:
        return False
    rising = columns[:, (columns[1] > columns[0]) & (columns[-1] > columns[0])]
    if not rising.shape[1]:
        return False
    steps = np.diff(rising, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        lost = np.diff(rising.astype(np.float32), axis=0) == 0
    real = (steps > 0).all(0) & (np.median(steps, axis=0) >= FINEST)
    return bool((real & (lost.mean(0) >= 0.1)).any())
