"""Frames of a clip by their number, decoded from a copy of its packets in a temporary folder."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dipole.data.store.video import Clip, PacketTable, VideoError, VideoReader, cut, video_error


class ClipFrames:
    """Decodes a clip; the copy goes when it is closed or forgotten.

    place: Begins the message of a DataError.
    """

    def __init__(self, clip: Clip, fps: float, place: str) -> None:
        self._clip, self._place = clip, f"{place}, {clip.path.name}"
        self._folder = tempfile.TemporaryDirectory(prefix="dipole_clip_")
        target = Path(self._folder.name) / "clip.mp4"
        try:
            table = PacketTable.of(clip.path)
            self._offset = clip.start_frame - table.span(clip)[0]
            cut(clip, target, fps, table)
            self._reader = VideoReader(open(target, "rb"))  # noqa: SIM115  closed by it
        except VideoError as error:
            self._folder.cleanup()
            raise video_error(self._place, error) from error

    def take(self, numbers: Sequence[int]) -> np.ndarray:
        """Frames [n, height, width, 3] with these numbers, which do not decrease."""
        wanted = sorted(set(numbers))
        frames: list[np.ndarray] = []
        try:
            for frame in self._reader.frames([number + self._offset for number in wanted]):
                frames.append(frame)
        except VideoError as error:
            where = f"{self._place}, frame {wanted[len(frames)]} of {self._clip.n_frames}"
            raise video_error(where, error) from error
        return np.stack([frames[wanted.index(number)] for number in numbers])

    def close(self) -> None:
        self._reader.close()
        self._folder.cleanup()
