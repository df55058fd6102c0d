"""Stretches in which nothing moves, by numbers alone.

A stretch is idle while every number stays within a tolerance of what it was when the stretch began:
noise does not end it, and a slow drift does.
"""

import numpy as np

CLOCKS = ("timestamp", "timestamps", "time", "stamp")
COUNTERS = ("frame_index", "index", "episode_index", "task_index")
EVEN = 0.05  # share by which the steps of a counter may differ
OUTCOMES = (
    *("done", "dones", "reward", "rewards", "success", "successes"),
    *("terminal", "terminals", "terminated", "truncated"),
    *("termination", "terminations", "truncation", "truncations"),
)


def is_measured(key: str) -> bool:
    """Whether a key may say if something moves: no clock, no counter, and nothing that tells how
    an episode went, such as rewards, next.success, is_last."""
    *above, name = key.lower().split(".")
    said = name in (*CLOCKS, *COUNTERS, *OUTCOMES) or name.startswith("is_")
    return not said and "next" not in above


def counted_steps(numbers: np.ndarray) -> np.ndarray:
    """By how much each column of an episode [n, columns] goes on in every frame, as a counter or a
    clock does: float64 [columns], NaN where the steps differ by more than EVEN, or are too few."""
    if len(numbers) < 3:
        return np.full(numbers.shape[1], np.nan)
    steps = np.diff(numbers.astype(np.float64), axis=0)
    low, high = steps.min(0), steps.max(0)
    size = np.maximum(np.abs(low), np.abs(high))
    even = (low * high > 0) & (high - low <= EVEN * size)
    return np.asarray(np.where(even, (low + high) / 2, np.nan))


def idle_start(numbers: np.ndarray, tolerance: np.ndarray) -> int:
    """Frames at the beginning of [n, columns] in which nothing leaves the first frame's numbers
    by more than the tolerance [columns]; n where nothing ever does."""
    moved = (np.abs(numbers - numbers[:1]) > tolerance).any(1)
    return int(np.argmax(moved)) if moved.any() else len(numbers)


def idle_end(numbers: np.ndarray, tolerance: np.ndarray) -> int:
    """The same at the end, about the last frame's numbers."""
    return idle_start(numbers[::-1], tolerance)


def idle_stretches(numbers: np.ndarray, tolerance: np.ndarray, least: int) -> list[tuple[int, int]]:
    """Idle stretches [start, stop) of at least `least` frames, each as long as it can be."""
    found: list[tuple[int, int]] = []
    start = 0
    while start + least <= len(numbers):
        window = numbers[start : start + least]
        moved = np.flatnonzero((np.abs(window - window[:1]) > tolerance).any(1))
        if len(moved):
            # No stretch of this length begins before the last frame that is too far from the first.
            start += _skip(window, tolerance)
            continue
        stop = start + idle_start(numbers[start:], tolerance)
        found.append((start, stop))
        start = stop
    return found


def _skip(window: np.ndarray, tolerance: np.ndarray) -> int:
    """How far to go on from a window that is not idle: to the first frame within the tolerance of
    all that follow it in the window."""
    for offset in range(1, len(window)):
        if not (np.abs(window[offset:] - window[offset : offset + 1]) > tolerance).any():
            return offset
    return len(window)


def tolerances(low: np.ndarray, high: np.ndarray, share: float) -> np.ndarray:
    """A share of the range of each column; columns that never move are no measure: infinite."""
    span = high - low
    return np.asarray(np.where(span > 0, share * span, np.inf))
