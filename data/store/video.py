"""Videos: an episode's frames cut out of a file without decoding, and frames read by their number.

A cut copies packets as they are, so no picture changes and nothing is encoded twice. Its frames lie
evenly in time, so that frame n is found by seeking to n steps; it begins at the key frame before
the episode's first frame, which may therefore be a later one of the file.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dipole.data.core.errors import DataError

TICKS = 512  # of a video's clock in a frame


class VideoError(ValueError):
    """A video that cannot be read; the message is to stand after the place."""


@dataclass(frozen=True)
class Clip:
    """An episode's frames in a video file: `n_frames` of them, from frame `start_frame` of the file.

    frame_shape: [height, width, channels] of one frame.
    """

    path: Path
    start_frame: int
    n_frames: int
    frame_shape: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n_frames, *self.frame_shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.n_frames


@dataclass(frozen=True)
class PacketTable:
    """The frames of a video file in the order they are shown.

    times: seconds, float64 [N]; stamps: the same in the file's clock, int64 [N]; keys: numbers of
    the key frames, sorted; codec: e.g. "av1".
    """

    times: np.ndarray
    stamps: np.ndarray
    keys: np.ndarray
    codec: str

    @classmethod
    def of(cls, path: Path) -> "PacketTable":
        """Read without decoding; raises VideoError where the file is no video or damaged."""
        with _opened(path) as container:
            stream = _stream(container)
            try:
                packets = [
                    (packet.pts, packet.is_keyframe)
                    for packet in container.demux(stream)
                    if packet.size and not packet.is_corrupt
                ]
            except _av_error() as error:
                raise VideoError(f"the video is damaged ({error})") from error
            if not packets or any(stamp is None for stamp, _ in packets):
                raise VideoError("the video has no frames with a time: it is cut short or damaged")
            packets.sort()
            stamps = np.array([stamp for stamp, _ in packets], np.int64)
            keys = np.flatnonzero([key for _, key in packets])
            times = stamps * float(stream.time_base)
            return cls(times - times[0], stamps, keys, stream.codec_context.name)

    def __len__(self) -> int:
        return len(self.stamps)

    def span(self, clip: Clip) -> tuple[int, int]:
        """Frames [start, stop) that a cut must hold: from key frame to key frame.

        Raises VideoError where the file has not all the clip's frames.
        """
        end = clip.start_frame + clip.n_frames
        if end > len(self):
            there = max(len(self) - clip.start_frame, 0)
            raise VideoError(
                f"frame {there} of {clip.n_frames}: the video ends there, so it is cut short "
                "or belongs to another episode"
            )
        before = self.keys[self.keys <= clip.start_frame]
        after = self.keys[self.keys >= end]
        if not len(before):
            raise VideoError("frame 0: no key frame at or before it, so it cannot be decoded")
        return int(before[-1]), int(after[0]) if len(after) else len(self)


def cut(clip: Clip, target: Path, fps: float, table: PacketTable) -> None:
    """Write the clip's packets to a file of its own; whole, or not there.

    Frame n of the clip is frame n + clip.start_frame - table.span(clip)[0] of the file. Raises
    VideoError.
    """
    import av

    start, stop = table.span(clip)
    rate = Fraction(fps).limit_denominator(1001)
    beside = target.with_name(target.name + ".partial")
    with _opened(clip.path) as source, av.open(str(beside), "w", format="mp4") as written:
        stream = _stream(source)
        try:
            copy = written.add_stream_from_template(stream, opaque=True)
            source.seek(int(table.stamps[start]), stream=stream, backward=True)
            packets = _packets(source, stream, table.stamps[start:stop])
            for packet, shown, decoded in packets:
                # Set anew for each: the muxer chooses a clock of its own with the first.
                packet.time_base = 1 / (rate * TICKS)
                packet.pts, packet.dts, packet.duration = shown * TICKS, decoded * TICKS, TICKS
                packet.stream = copy
                written.mux(packet)
        except (_av_error(), ValueError) as error:
            raise VideoError(f"the video cannot be cut ({error})") from error
    os.replace(beside, target)


def _packets(source: Any, stream: Any, stamps: np.ndarray) -> Iterator[tuple[Any, int, int]]:
    """The packets with these stamps, and when each is shown and decoded, counted in frames."""
    number = {int(stamp): n for n, stamp in enumerate(stamps)}
    packets = []
    for packet in source.demux(stream):
        if packet.size and packet.pts in number:
            packets.append((packet, number[packet.pts]))
        if len(packets) == len(stamps):
            break
    if len(packets) < len(stamps):
        raise VideoError(f"frame {len(packets)}: the video is damaged from there on")
    # Packets come in the order of decoding; with B-frames some are shown later than that.
    delay = max(n - shown for n, (_, shown) in enumerate(packets))
    for n, (packet, shown) in enumerate(packets):
        yield packet, shown, n - delay


class VideoReader:
    """Frames of a cut by their number. file: the cut, to seek in; closed with the reader."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        try:
            self._container = _open(file)
        except BaseException:
            file.close()
            raise
        self._stream = _stream(self._container)
        # Key frames are near each other, and loaders have processes: more threads only wait.
        self._stream.codec_context.thread_count = 1
        entries = self._stream.index_entries
        stamps = [entry.timestamp for entry in entries]
        self.n_frames = len(stamps)
        self._step = stamps[1] - stamps[0] if len(stamps) > 1 else 1
        self._keys = [n for n, entry in enumerate(entries) if entry.is_keyframe]
        self._start = self._stream.start_time or 0
        self._decoding: Iterator[Any] = iter(())
        self._next: int | None = None  # the frame that decoding would give next

    def close(self) -> None:
        self._container.close()
        self._file.close()

    def frames(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames uint8 [height, width, 3] with these numbers, increasing.

        Raises VideoError, beginning with the frame's number, for one that is not there.
        """
        for number in wanted:
            yield self._frame(number)

    def _frame(self, number: int) -> np.ndarray:
        if number >= self.n_frames:
            raise VideoError(f"frame {number}: the video has {self.n_frames}")
        key = bisect_right(self._keys, number) - 1
        problem = ""
        if self._next is not None and max(self._keys[key], self._next) == self._next <= number:
            found, problem = self._decode_to(number)
            if found is not None:
                return found
        # With B-frames a key frame may be decoded before, and shown after, its number says.
        for back in sorted({max(key - step, 0) for step in (0, 1, 2)} | {0}, reverse=True):
            self._seek(self._keys[back])
            found, problem = self._decode_to(number)
            if found is not None:
                return found
        raise VideoError(f"frame {number}: {problem}")

    def _seek(self, number: int) -> None:
        stamp = self._start + number * self._step
        try:
            self._container.seek(stamp, stream=self._stream, backward=True)
        except _av_error():
            self._container.seek(self._start, stream=self._stream, backward=True)
        self._decoding = self._container.decode(self._stream)

    def _decode_to(self, number: int) -> tuple[np.ndarray | None, str]:
        """The frame, or why it is not among those that decoding gives."""
        try:
            for frame in self._decoding:
                at = round((frame.pts - self._start) / self._step)
                self._next = at + 1
                if at > number:
                    return None, "it is missing from the video"
                if at == number:
                    if frame.is_corrupt:
                        break
                    picture: np.ndarray = frame.to_ndarray(format="rgb24")
                    return picture, ""
            else:
                return None, "the video ends before it"
        except _av_error() as error:
            self._next = None
            return None, f"it cannot be decoded ({error})"
        self._next = None
        return None, "it is damaged"


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise VideoError("the video is missing")
    return _open(str(path))


def _open(file: Any) -> Any:
    import av

    try:
        return av.open(file)
    except _av_error() as error:
        raise VideoError(f"not a readable video ({error}): it is cut short or damaged") from error


def _stream(container: Any) -> Any:
    if not container.streams.video:
        raise VideoError("there is no video in the file")
    return container.streams.video[0]


def _av_error() -> type[Exception]:
    import av

    error: type[Exception] = av.FFmpegError
    return error


def video_error(place: str, error: VideoError) -> DataError:
    """The error for a person: where, what, and what to do."""
    return DataError(f"{place}, {error}. Copy the video again, or leave the episode out")
