"""Where the packet of each frame lies in a cut, and from which one on to decode."""

from bisect import bisect_right
from typing import Any

import numpy as np

from dipole.data.store.video.clip import VideoError
from dipole.data.store.video.container import av_error, video_stream


class FrameIndex:
    """The packets of one file in the order they are decoded.

    offsets: Of each packet in the file, bytes, int64 [N].
    sizes: Of each packet, bytes, int32 [N].
    numbers: Of the frame that each packet holds, as frames are shown, int32 [N], each once.
    is_key: Whether decoding can begin with the packet, bool [N].
    """

    def __init__(
        self, offsets: np.ndarray, sizes: np.ndarray, numbers: np.ndarray, is_key: np.ndarray
    ) -> None:
        self.offsets, self.sizes, self.numbers = offsets, sizes, numbers
        self._places = np.argsort(numbers, kind="stable").astype(np.int32)
        keys = np.flatnonzero(is_key)
        keys = keys[np.argsort(numbers[keys], kind="stable")]
        self._keys: list[int] = keys.tolist()
        self._key_numbers: list[int] = numbers[keys].tolist()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, about."""
        arrays = (self.offsets, self.sizes, self.numbers, self._places)
        return sum(array.nbytes for array in arrays) + 64 * len(self._keys)

    def place(self, number: int) -> int:
        """Which packet holds the frame; raises VideoError if none does."""
        if number < len(self) and self.numbers[number] == number:  # nothing is reordered
            return number
        at = int(np.searchsorted(self.numbers, number, sorter=self._places))
        if at == len(self) or self.numbers[self._places[at]] != number:
            missing = f"the video has {len(self)}" if at == len(self) else "it is missing"
            raise VideoError(f"frame {number}: {missing}")
        return int(self._places[at])

    def starts(self, number: int) -> list[int]:
        """Packets to begin decoding a frame at: the nearest key frame, else an earlier one.

        An earlier one is needed where a key frame's followers refer to what comes before it.
        """
        nearest = bisect_right(self._key_numbers, number) - 1
        chosen = dict.fromkeys(self._keys[max(at, 0)] for at in (nearest, nearest - 1, 0))
        return list(chosen) if self._keys else [0]


def read_index(container: Any, reordered: bool) -> FrameIndex:
    """The index of an opened mp4 whose frames lie evenly in time.

    reordered: Whether frames may be shown in another order than they are decoded; then all of the
    file is read, since only packets say when they are shown. Raises VideoError.
    """
    stream = video_stream(container)
    if reordered:
        try:
            packets = [
                (p.pos, p.size, p.pts, p.is_keyframe) for p in container.demux(stream) if p.size
            ]
        except av_error() as error:
            raise VideoError(f"the video is damaged ({error})") from error
    else:
        packets = [(e.pos, e.size, e.timestamp, e.is_keyframe) for e in stream.index_entries]
    if not packets or any(None in packet for packet in packets):
        raise VideoError("the video has no frames with a time: it is cut short or damaged")
    offsets, sizes, stamps, is_key = (np.array(column) for column in zip(*packets, strict=True))
    return FrameIndex(offsets, sizes.astype(np.int32), _numbers(stamps), is_key)


def _numbers(stamps: np.ndarray) -> np.ndarray:
    """Frames counted by their time, int32 [N]."""
    ordered = np.sort(stamps)
    steps = np.diff(ordered)
    if len(steps) and steps.min() <= 0:
        raise VideoError("the video has two frames at one time: it is damaged")
    step = int(np.median(steps)) if len(steps) else 1
    numbers = np.round((stamps - ordered[0]) / max(step, 1))
    if numbers.max() >= 2**31 or len(np.unique(numbers)) < len(numbers):
        raise VideoError("the video's frames do not lie evenly in time")
    return numbers.astype(np.int32)
