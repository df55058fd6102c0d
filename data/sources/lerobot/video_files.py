"""Video files of a dataset: their packets and headers, each read once, and frames decoded."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dipole.data.sources.lerobot.folder import DatasetFolder
from dipole.data.store.video import PacketTable, VideoError
from dipole.data.store.video.colour import RgbConverter
from dipole.data.store.video.container import av_error, opened, video_stream

KEPT_FILES = 32  # of which the packets are remembered


@dataclass(frozen=True)
class VideoHeader:
    """What a file says of itself. rate: frames a second, None where unknown."""

    height: int
    width: int
    pixels: str
    rate: float | None

    @property
    def is_depth(self) -> bool:
        """Whether it has one channel of more than 8 bits."""
        return self.pixels.startswith("gray1")

    @classmethod
    def of(cls, path: Path) -> "VideoHeader":
        """Read without its packets; raises VideoError where the file is no video."""
        with opened(path) as container:
            stream = video_stream(container)
            context, rate = stream.codec_context, stream.average_rate
            average = float(rate) if rate else None
            return cls(context.height, context.width, context.pix_fmt or "", average)


@dataclass(frozen=True)
class VideoFile:
    """A file, its header and its packets. rate: frames a second, as they lie in time."""

    path: Path
    header: VideoHeader
    table: PacketTable

    @property
    def rate(self) -> float | None:
        times = self.table.times
        lasts = float(times[-1]) if len(times) > 1 else 0.0
        return (len(times) - 1) / lasts if lasts > 0 else None

    def frames(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames uint8 [height, width, 3] with these numbers, which increase.

        Raises VideoError, beginning with the place in `numbers`, for one that cannot be decoded.
        """
        position, keys = 0, self.table.keys.tolist()
        back = 1
        while position < len(numbers):
            if numbers[position] >= len(self.table):
                raise VideoError(f"frame {position}: the video ends before it")
            at = max(bisect_right(keys, numbers[position]) - back, 0)
            reached = position
            for frame in self._decoded(keys[at], numbers, position):
                yield frame
                reached += 1
            if reached == position:
                # With B-frames a key frame may be decoded before, and shown after, its number says.
                if at == 0:
                    raise VideoError(f"frame {position}: it is damaged or cannot be decoded")
                back = back + 1 if back < 3 else len(keys)
            else:
                position, back = reached, 1

    def _decoded(self, key: int, numbers: Sequence[int], position: int) -> Iterator[np.ndarray]:
        """Frames from the key frame on that are wanted next, until one is missing."""
        stamps, colour = self.table.stamps, RgbConverter()
        try:
            with opened(self.path) as container:
                stream = video_stream(container)
                stream.codec_context.thread_count = 1
                container.seek(int(stamps[key]), stream=stream, backward=True)
                for frame in container.decode(stream):
                    number = int(np.searchsorted(stamps, frame.pts or 0))
                    if frame.is_corrupt or number > numbers[position]:
                        return
                    if number == numbers[position]:
                        yield colour.convert(frame)
                        position += 1
                    if position == len(numbers):
                        return
        except av_error():
            return


class VideoFiles:
    """Video files by their names within the dataset."""

    def __init__(self, folder: DatasetFolder) -> None:
        self._folder = folder
        self._files: OrderedDict[str, VideoFile] = OrderedDict()

    def file(self, name: str) -> VideoFile:
        """The file; raises VideoError where it is no video, DataError where it is not opened."""
        if name not in self._files:
            path = self._folder.file(name)
            self._files[name] = VideoFile(path, VideoHeader.of(path), PacketTable.of(path))
            if len(self._files) > KEPT_FILES:
                self._files.popitem(last=False)
        self._files.move_to_end(name)
        return self._files[name]
