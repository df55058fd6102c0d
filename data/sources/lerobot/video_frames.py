"""Which frames of a video file are those of an episode.

By their number, where the file runs at the rate of the rows: the lengths of the episodes in a file
say exactly where each begins, if together they are as many frames as the file has. Otherwise the
second at which the episode begins (`from_timestamp`) says it. By time, where the file runs faster.
"""

from dataclasses import dataclass

import numpy as np

from dipole.data.sources.lerobot.episodes import FileColumn
from dipole.data.sources.lerobot.timing import RATE_TOLERANCE
from dipole.data.sources.lerobot.video_files import VideoFile

BETWEEN = 0.25  # of a frame, by which a beginning may miss the frame it means


class UnknownFramesError(ValueError):
    """It cannot be known which frames belong to an episode; the message stands after the place."""


@dataclass(frozen=True)
class EpisodeFrames:
    """numbers: Of the frames in the file, int64 [n].

    by_time: Why they were chosen by time, so that they are not one piece of the file; "" where they
    follow each other.
    """

    numbers: np.ndarray
    by_time: str = ""
    warnings: tuple[str, ...] = ()


def find_frames(
    file: VideoFile,
    column: FileColumn,
    row: int,
    lengths: np.ndarray,
    times: np.ndarray,
    fps: float,
) -> EpisodeFrames:
    """The frames of the episode in this row of the episode table.

    column: Of its camera. lengths: Of all episodes, int64 [E].
    times: Of its rows, seconds since its beginning, [n]. fps: Of the rows.

    Raises UnknownFramesError where it cannot be known.
    """
    rows = column.rows(row)
    n, listed, in_file = int(lengths[row]), int(lengths[rows].sum()), len(file.table)
    off = 0.0 if file.rate is None else abs(file.rate / fps - 1)
    uneven = np.abs(times - times[0] - np.arange(n) / fps).max() * fps > 0.5
    if off > RATE_TOLERANCE or (listed != in_file and off * n > 0.5):
        why = f"the video runs at {file.rate or 0:.4g} frames a second, the rows at {fps:g}"
    else:
        why = "the time stamps of the rows jump" if listed != in_file and uneven else ""
    if why:
        return EpisodeFrames(_nearest(file, times + column.seconds[row], why), why)
    if listed == in_file:
        first = int(lengths[rows[: int(np.flatnonzero(rows == row)[0])]].sum())
        warnings = _drift(column.seconds[row] * fps, first)
    else:
        first, warnings = _first_by_time(file, column, row, rows, lengths, fps)
    return EpisodeFrames(np.arange(first, first + n), warnings=warnings)


def _drift(by_time: float, first: int) -> tuple[str, ...]:
    if abs(by_time - first) <= 0.5:
        return ()
    return (
        f"from_timestamp in meta/episodes says frame {by_time:.2f} of the file, the lengths of the "
        f"episodes before say {first}: that is taken",
    )


def _first_by_time(
    file: VideoFile,
    column: FileColumn,
    row: int,
    rows: np.ndarray,
    lengths: np.ndarray,
    fps: float,
) -> tuple[int, tuple[str, ...]]:
    begin = float(column.seconds[row])
    first = int(_closest(file.table.times, np.array([begin]))[0])
    missed = abs(float(file.table.times[first]) - begin) * fps
    counts = f"the file has {len(file.table)} frames, its episodes {int(lengths[rows].sum())}"
    if missed > BETWEEN:
        raise UnknownFramesError(
            f"frame 0: from_timestamp {begin:g} lies {missed:.2g} frames beside the nearest frame, "
            f"and {counts}: which frames belong to the episode is unknown. "
            "Leave the episode or the camera out"
        )
    position = int(np.flatnonzero(rows == row)[0])
    if position:
        before = rows[position - 1]
        end = round(float(column.seconds[before]) * fps) + int(lengths[before])
        if first < end:
            raise UnknownFramesError(
                f"frame 0: from_timestamp says frame {first} of the file, where the episode before "
                f"still has {end - first} frames, and {counts}: which belong to whom is unknown. "
                "Leave the episode or the camera out"
            )
    spare = len(file.table) - first - int(lengths[row])
    if len(rows) == 1 and not begin and spare > 0:
        return first, (f"the video has {spare} frames more than rows: its first ones are taken",)
    return first, ()


def _nearest(file: VideoFile, times: np.ndarray, why: str) -> np.ndarray:
    """The frames nearest in time, each once."""
    numbers = _closest(file.table.times, times)
    missed = np.abs(file.table.times[numbers] - times)
    late = np.flatnonzero(missed > 0.55 / (file.rate or 1.0))
    if len(late):
        raise UnknownFramesError(
            f"frame {late[0]}: {why}, and nearest to its {times[late[0]]:.4g} s is a picture of "
            f"{file.table.times[numbers[late[0]]]:.4g} s: what belongs together is unknown. "
            "Encode the video again at the rate of the rows, or leave the camera out"
        )
    again = np.flatnonzero(np.diff(numbers) == 0)
    if len(again):
        raise UnknownFramesError(
            f"frame {again[0] + 1}: {why}: there is no picture of its own for each row. Encode "
            "the video again at the rate of the rows, or leave the camera out"
        )
    return numbers


def _closest(sorted_times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the nearest of `sorted_times` to each, int64 [n]."""
    after = np.clip(np.searchsorted(sorted_times, wanted), 1, max(len(sorted_times) - 1, 1))
    after = np.minimum(after, len(sorted_times) - 1)
    before = np.maximum(after - 1, 0)
    nearer = wanted - sorted_times[before] <= sorted_times[after] - wanted
    closest: np.ndarray = np.where(nearer, before, after)
    return closest
