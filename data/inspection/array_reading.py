"""Every chunk of an array read once: what cannot be read, NaN and infinities, columns, repeats.

Chunks of pictures are decoded, for that is what shows damage; their numbers are whole and so always
finite. Of videos some frames an episode are decoded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.inspection.column_summary import ColumnSummary
from dipole.data.inspection.findings import MOST_COUNTED, MOST_PER_ARRAY
from dipole.data.loading.statistics import READ_BYTES
from dipole.data.store.lazy_array import LazyArray
from dipole.data.store.video_array import VideoArray

VIDEO_FRAMES = 8  # of each episode that are decoded, and 2 where there are many episodes:
MOST_VIDEO_FRAMES = 20_000  # of all episodes
GLANCE = 7  # every so many pixels are compared first


@dataclass
class ArrayReading:
    """What reading an array showed.

    unreadable: Messages, each with its place; reading ends after MOST_COUNTED.
    not_finite: Frames that hold NaN or infinity, as far as they are counted.
    summary: Of the columns; None for pictures.
    repeats: Runs [first, last] of frames, both included, that look the same; of videos as far as
        frames were decoded.
    empty: Frames of depth whose pixels are all 0.
    """

    unreadable: list[str] = field(default_factory=list)
    not_finite: list[int] = field(default_factory=list)
    summary: ColumnSummary | None = None
    repeats: list[tuple[int, int]] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether all of it is there, and finite."""
        return not self.unreadable and not self.not_finite


def read_array(array: LazyArray, ends: np.ndarray, kind: str = "") -> ArrayReading:
    """Read it in bounded memory. ends: of the episodes, exclusive; kind: as the dataset says."""
    if isinstance(array, VideoArray):
        return _read_video(array, ends)
    pictures = _is_camera(array, kind)
    reading = ArrayReading(summary=None if pictures else ColumnSummary(array.shape))
    last = None
    for start, frames in _readable(array, reading.unreadable):
        if array.dtype.kind == "f":
            finite = np.isfinite(frames).reshape(len(frames), -1).all(1)
            bad = start + np.flatnonzero(~finite)[: MOST_COUNTED - len(reading.not_finite)]
            reading.not_finite += bad.tolist()
        if reading.summary is not None:
            reading.summary.add(start, frames)
        if kind == "depth":
            blank = ~frames.reshape(len(frames), -1).any(1)
            reading.empty += (start + np.flatnonzero(blank)).tolist()
        if pictures:
            before = frames[:0] if last is None else last
            _note_repeats(reading.repeats, start - len(before), np.concatenate([before, frames]))
            last = frames[-1:]
    return reading


def _is_camera(array: LazyArray, kind: str) -> bool:
    """Frames of a camera, whose columns are pixels."""
    return array.ndim >= 4 and (array.dtype == np.uint8 or kind in ("image", "depth"))


def _read_video(array: VideoArray, ends: np.ndarray) -> ArrayReading:
    reading = ArrayReading()
    count = min(max(MOST_VIDEO_FRAMES // len(ends), 2), VIDEO_FRAMES)
    start = 0
    for stop in ends.tolist():
        numbers = np.unique(np.linspace(start, stop - 1, count).astype(np.int64))
        try:
            frames = array.take(numbers)
        except DataError as error:
            reading.unreadable.append(str(error))
        else:
            for place in np.flatnonzero(_same_as_next(frames)).tolist():
                _extend(reading.repeats, int(numbers[place]), int(numbers[place + 1]))
        start = stop
    return reading


def _note_repeats(repeats: list[tuple[int, int]], start: int, frames: np.ndarray) -> None:
    for place in np.flatnonzero(_same_as_next(frames)).tolist():
        _extend(repeats, start + place, start + place + 1)


def _extend(repeats: list[tuple[int, int]], first: int, last: int) -> None:
    if repeats and repeats[-1][1] == first:
        repeats[-1] = (repeats[-1][0], last)
    else:
        repeats.append((first, last))


def _same_as_next(frames: np.ndarray) -> np.ndarray:
    """Whether each frame [n, height, width, channels] is the next one: bool [n - 1]."""
    glance = frames[:, ::GLANCE, ::GLANCE]
    same = (glance[1:] == glance[:-1]).all(axis=tuple(range(1, frames.ndim)))
    for place in np.flatnonzero(same).tolist():
        same[place] = np.array_equal(frames[place], frames[place + 1])
    return np.asarray(same)


def _readable(array: LazyArray, unreadable: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    """Runs of whole chunks, each with its first frame; what cannot be read goes into the list."""
    claimed = array.n_chunks > 0 and array.chunk_error(array.n_chunks - 1) is not None
    if claimed:  # the last chunk is missing: so may be all of them, and there may be billions
        _read_or_note(array, range(array.n_chunks - 1, array.n_chunks), unreadable)
    most = MOST_PER_ARRAY if claimed else MOST_COUNTED
    for chunks in _runs(array, array.n_chunks - claimed):
        try:
            yield _read(array, chunks)
        except DataError:
            yield from _one_by_one(array, chunks, unreadable, most)
            if len(unreadable) > most:
                return


def _runs(array: LazyArray, n_chunks: int) -> Iterator[range]:
    """Chunks in runs of about READ_BYTES."""
    size = max(READ_BYTES // max(array.frame_bytes, 1) // array.chunk_length, 1)
    for first in range(0, n_chunks, size):
        yield range(first, min(first + size, n_chunks))


def _one_by_one(
    array: LazyArray, chunks: range, unreadable: list[str], most: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Those of the chunks that can be read, until more than `most` could not."""
    for chunk in chunks:
        if len(unreadable) > most:
            return
        found = _read_or_note(array, range(chunk, chunk + 1), unreadable)
        if found is not None:
            yield found


def _read_or_note(
    array: LazyArray, chunks: range, unreadable: list[str]
) -> tuple[int, np.ndarray] | None:
    try:
        return _read(array, chunks)
    except DataError as error:
        unreadable.append(str(error))
        return None


def _read(array: LazyArray, chunks: range) -> tuple[int, np.ndarray]:
    start = chunks.start * array.chunk_length
    return start, array.read(start, min(chunks.stop * array.chunk_length, len(array)))
