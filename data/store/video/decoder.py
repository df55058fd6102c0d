"""Frames of indexed videos by their number, in any order, without opening a file anew for each.

A decoder depends on a video's parameters and not on the file, so one serves all episodes that were
recorded alike: packets are read from where the index says they lie. Frames on the way to a wanted
one are decoded and not converted.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np

from dipole.data.store.video.clip import VideoError
from dipole.data.store.video.colour import RgbConverter
from dipole.data.store.video.container import av_error, video_stream
from dipole.data.store.video.frame_index import FrameIndex

MAX_DECODERS = 4  # kept, for videos of different parameters
READ_BYTES = 2**20  # of packets at once
SEQUENTIAL = 16  # frames decoded one after the other, after which more are likely to follow


class IndexedVideo:
    """A file whose packets are read one range at a time.

    index: Where they lie.
    parameters: Whatever a decoder must be set to; files with equal ones share a decoder.
    read: (offset, length) -> bytes of the file.
    """

    def __init__(
        self,
        index: FrameIndex,
        parameters: tuple[Any, ...],
        read: Callable[[int, int], bytes],
    ) -> None:
        self.index, self.parameters, self.read = index, parameters, read


def decoder_parameters(container: Any) -> tuple[Any, ...]:
    """What two videos must have in common for one decoder to serve both."""
    context = video_stream(container).codec_context
    return (
        context.codec.name,
        context.codec_tag,
        context.extradata,
        context.width,
        context.height,
        context.pix_fmt,
        int(context.color_range),
        int(context.colorspace),
        int(context.color_primaries),
        int(context.color_trc),
    )


class DecoderPool:
    """Decoders for videos of a few different parameters, each made from a container of such."""

    def __init__(self) -> None:
        self._decoders: OrderedDict[tuple[Any, ...], PacketDecoder] = OrderedDict()

    def __contains__(self, parameters: tuple[Any, ...]) -> bool:
        return parameters in self._decoders

    def __getitem__(self, parameters: tuple[Any, ...]) -> "PacketDecoder":
        self._decoders.move_to_end(parameters)
        return self._decoders[parameters]

    def add(self, parameters: tuple[Any, ...], decoder: "PacketDecoder") -> None:
        """Keep a decoder, and close the one that was not used for longest."""
        self._decoders[parameters] = decoder
        if len(self._decoders) > MAX_DECODERS:
            self._decoders.popitem(last=False)[1].close()

    def close(self) -> None:
        while self._decoders:
            self._decoders.popitem()[1].close()


class PacketDecoder:
    """Decodes packets of any video with the parameters of the one in `container`.

    container, file: Held open, since the decoder belongs to them; closed with it.
    """

    def __init__(self, container: Any, file: BinaryIO) -> None:
        self._context = video_stream(container).codec_context
        # Key frames are near each other, and loaders have processes: more threads only wait.
        self._context.thread_count = 1
        self._converter = RgbConverter()
        self._container, self._file = container, file
        self._video: IndexedVideo | None = None  # that is decoded now
        self._place = 0  # of the next packet
        self._decoded = 0  # packets since decoding began at a key frame
        self._at_end = False  # whether the decoder was told that no packets follow
        self._frames: deque[Any] = deque()  # decoded, not yet taken
        self._last = -1  # number of the frame taken last
        self._buffer, self._buffer_start = b"", 0

    def close(self) -> None:
        self._forget()
        self._container.close()
        self._file.close()

    def frames(self, video: IndexedVideo, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames uint8 [height, width, 3] with these numbers, which increase.

        Raises VideoError, beginning with the frame's number, for one that is not there.
        """
        places: list[int] = []
        absent: VideoError | None = None
        try:
            for number in numbers:
                places.append(video.index.place(number))
        except VideoError as error:
            absent = error  # the frames before it are there
        run_ends = _run_ends(video.index, numbers[: len(places)], places)
        for number, run_end in zip(numbers, run_ends, strict=False):
            yield self._frame(video, number, run_end)
        if absent is not None:
            raise absent

    def _frame(self, video: IndexedVideo, number: int, run_end: int) -> np.ndarray:
        starts = video.index.starts(number)
        reason = ""
        if self._leads_to(video, number, starts[0]):
            frame, reason = self._decode_to(video, number, run_end)
            if frame is not None:
                return self._converter.convert(frame)
        for start in starts:
            self._begin(video, start)
            frame, reason = self._decode_to(video, number, run_end)
            if frame is not None:
                return self._converter.convert(frame)
        self._forget()
        raise VideoError(f"frame {number}: {reason}")

    def _leads_to(self, video: IndexedVideo, number: int, start: int) -> bool:
        """Whether decoding on gives the frame no later than beginning at a key frame would."""
        if self._video is not video or number <= self._last:
            return False
        return any(frame.pts == number for frame in self._frames) or (
            not self._at_end and start <= self._place
        )

    def _begin(self, video: IndexedVideo, start: int) -> None:
        self._forget()
        self._video, self._place = video, start

    def _forget(self) -> None:
        if self._context.is_open:
            self._context.flush_buffers()
        self._video, self._decoded, self._at_end, self._last = None, 0, False, -1
        self._frames.clear()
        self._buffer = b""

    def _decode_to(self, video: IndexedVideo, number: int, run_end: int) -> tuple[Any, str]:
        """The frame, or None and why it does not come."""
        try:
            while True:
                while self._frames:
                    frame = self._frames.popleft()
                    shown = -1 if frame.pts is None else int(frame.pts)
                    if shown <= self._last:
                        return None, "the video's frames are out of order"
                    self._last = shown
                    if shown == number:
                        return (None, "it is damaged") if frame.is_corrupt else (frame, "")
                    if shown > number:
                        return None, "it is missing from the video"
                if self._at_end:
                    return None, "the video ends before it"
                self._decode_packet(video, run_end)
        except av_error() as error:
            return None, f"it cannot be decoded ({error})"
        except VideoError as error:
            return None, str(error)

    def _decode_packet(self, video: IndexedVideo, run_end: int) -> None:
        """Give the decoder its next packet, or the end where it need not be given more."""
        import av

        index = video.index
        enough = self._place > run_end and self._decoded < SEQUENTIAL
        if enough or self._place == len(index):
            self._frames.extend(self._context.decode(None))
            self._at_end = True
            return
        packet = av.Packet(self._read(video, self._place, run_end))
        packet.pts = int(index.numbers[self._place])
        self._place += 1
        self._decoded += 1
        self._frames.extend(self._context.decode(packet))

    def _read(self, video: IndexedVideo, place: int, run_end: int) -> bytes:
        """A packet's bytes; those that follow it without a gap are read with it."""
        index = video.index
        offset, size = int(index.offsets[place]), int(index.sizes[place])
        start = offset - self._buffer_start
        if not self._buffer or start < 0 or start + size > len(self._buffer):
            end = offset + size
            for following in range(place + 1, run_end + 1):
                if index.offsets[following] != end or end - offset > READ_BYTES:
                    break
                end += int(index.sizes[following])
            try:
                self._buffer, self._buffer_start = video.read(offset, end - offset), offset
            except (OSError, EOFError, BadZipFile) as error:
                raise VideoError(f"the video cannot be read ({error})") from error
            start = 0
        packet = self._buffer[start : start + size]
        if len(packet) < size:
            raise VideoError("the video is cut short before it")
        return packet


def _run_ends(index: FrameIndex, numbers: Sequence[int], places: Sequence[int]) -> list[int]:
    """For each frame the last packet that is needed before decoding jumps to another key frame."""
    runs: list[list[int]] = []
    end = -2
    for number, place in zip(numbers, places, strict=True):
        if index.starts(number)[0] > end + 1:
            runs.append([])
            end = place
        runs[-1].append(place)
        end = max(end, place)
    return [end for run in runs for end in [max(run)] * len(run)]
