"""Order and time of an episode's rows: frame_index and timestamp."""

import numpy as np

from dipole.data.core.errors import DataError

RATE_TOLERANCE = 0.02  # of the frame rate, by which time stamps may run faster or slower


def frame_order(place: str, frame_index: np.ndarray | None, n: int) -> tuple[np.ndarray, list[str]]:
    """Which row is frame 0, 1, ...: int64 [n]; and warnings of frames that are missing.

    Raises DataError for a frame that is there twice.
    """
    if frame_index is None:
        return np.arange(n), []
    order = np.argsort(frame_index, kind="stable")
    index = frame_index[order]
    twice = np.flatnonzero(index[1:] == index[:-1])
    if len(twice):
        raise DataError(
            f"{place}: frame_index {index[twice[0]]:g} is there twice. Mend it, or leave the "
            "episode out"
        )
    expected = np.arange(n)
    if np.array_equal(index, expected):
        return order, []
    frame = int(np.flatnonzero(index != expected)[0])
    return order, [
        f"{place}: frame_index {frame} is missing: after {frame} frames comes {index[frame]:g}. "
        "Its frames are taken one after another"
    ]


def check_times(place: str, times: np.ndarray, fps: float) -> list[str]:
    """Warnings of time stamps that jump. times: seconds, [n], in the order of the frames.

    Raises DataError, naming the frame, where they do not increase, or at another rate than `fps`.
    """
    steps = np.diff(times.astype(np.float64))
    back = np.flatnonzero(~(steps > 0))
    if len(back):
        frame = int(back[0]) + 1
        raise DataError(
            f"{place}: timestamp of frame {frame} is {times[frame]:g} s, after "
            f"{times[frame - 1]:g} s: time does not increase. Mend it, or leave the episode out"
        )
    if not len(steps):
        return []
    usual = steps[steps < 1.5 * np.median(steps)]
    rate = 1 / float(usual.mean())
    if abs(rate / fps - 1) > RATE_TOLERANCE:
        raise DataError(
            f"{place}: timestamp runs at {rate:.4g} frames a second, but meta/info.json says fps "
            f"{fps:g}. Correct the one that is wrong, or leave the episode out"
        )
    jumps = np.flatnonzero(steps > 1.5 / fps)
    if not len(jumps):
        return []
    frame, more = int(jumps[0]) + 1, len(jumps) - 1
    others = f", and {more} more" if more else ""
    missing = round(float(steps[frame - 1]) * fps) - 1
    return [
        f"{place}: timestamp jumps by {steps[frame - 1]:.3g} s before frame {frame} ({missing} "
        f"frames are missing there{others}). Its frames are taken one after another"
    ]
