"""The frames of a video file in the order they are shown, and clips cut out without decoding.

A cut copies packets as they are, so no picture changes and nothing is encoded twice. Its frames lie
evenly in time, so that frame n is found by its time; it begins at the key frame before the clip's
first frame, which may therefore be a later one of the file.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.store.video.clip import Clip, VideoError
from dipole.data.store.video.container import av_error, opened, video_stream

RATE_TOLERANCE = 0.02  # share by which a video's rate may differ from that of the rows
ROUNDED = 0.1  # frames by which a clip of a coarse clock may last longer or less
UNEVEN = 0.55  # frames by which a picture may lie beside its even place
TICKS = 512  # of a video's clock in a frame
REMEMBERED = 32  # files of which the packets are remembered, 24 bytes a frame


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
        """Read without decoding, once: the files that were read last are remembered.

        Raises VideoError where the file is no video or damaged.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise VideoError("the video is missing") from error
        return _read_table(path, status.st_mtime_ns, status.st_size)

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

    def out_of_step(self, clip: Clip, fps: float) -> str:
        """Why frame n of a clip is not the picture of time n / fps, for a person; "" where it is.

        Raises VideoError where the file has not all the clip's frames.
        """
        self.span(clip)
        times = self.times[clip.start_frame : clip.start_frame + clip.n_frames]
        if len(times) < 2:
            return ""
        steps, lasts = len(times) - 1, float(times[-1] - times[0])
        rate = steps / lasts if lasts > 0 else 0.0
        if abs(lasts * fps - steps) > max(RATE_TOLERANCE * steps, ROUNDED):
            return f"its pictures are {rate:.4g} a second, the rows {fps:g}"
        beside = np.abs(times - times[0] - np.arange(len(times)) / rate) * rate
        if beside.max() > UNEVEN:
            frame = int(np.argmax(beside))
            return (
                f"its pictures lie unevenly in time, the one of frame {frame} {beside[frame]:.2g} "
                "frames beside its place: the rate varies, or frames were dropped"
            )
        return ""


@lru_cache(maxsize=REMEMBERED)
def _read_table(path: Path, changed: int, size: int) -> PacketTable:
    """The packets of a file. changed, size: of the file, so that another one is read anew."""
    with opened(path) as container:
        stream = video_stream(container)
        try:
            packets = [
                (packet.pts, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.size and not packet.is_corrupt
            ]
        except av_error() as error:
            raise VideoError(f"the video is damaged ({error})") from error
        if not packets or any(stamp is None for stamp, _ in packets):
            raise VideoError("the video has no frames with a time: it is cut short or damaged")
        packets.sort()
        stamps = np.array([stamp for stamp, _ in packets], np.int64)
        keys = np.flatnonzero([key for _, key in packets])
        times = stamps * float(stream.time_base)
        return PacketTable(times - times[0], stamps, keys, stream.codec_context.name)


def cut(clip: Clip, target: Path, fps: float, table: PacketTable) -> None:
    """Write the clip's packets to a file of its own; whole, or not there.

    Frame n of the clip is frame n + clip.start_frame - table.span(clip)[0] of the file. Raises
    VideoError.
    """
    import av

    start, stop = table.span(clip)
    rate = Fraction(fps).limit_denominator(1001)
    beside = target.with_name(target.name + ".partial")
    with opened(clip.path) as source, av.open(str(beside), "w", format="mp4") as written:
        stream = video_stream(source)
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
        except (av_error(), ValueError) as error:
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
