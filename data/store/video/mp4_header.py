"""What the header of an mp4 claims, checked before FFmpeg allocates anything for it.

A few bytes of header can claim billions of frames, for which FFmpeg sets up tables, or pictures
of 65,535 × 65,535.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dipole.data.store.video.clip import VideoError

MAX_PIXELS = 2**26  # of one frame: 8,192 × 8,192
MAX_FRAMES = 2**22  # of one file: 38 hours at 30 Hz
MAX_HEADER_BYTES = 2**26
MAX_EDITS = 64  # entries of an edit list: each may repeat all frames
MAX_BOXES = 2**16  # at the top of a file
_STARTS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_PARENTS = (b"trak", b"mdia", b"minf", b"stbl", b"edts", b"traf")


@dataclass
class Mp4Header:
    """What the headers of an mp4 say of its frames.

    reordered: Whether some may be shown at another time than they are decoded (B-frames).
    fragmented: Whether frames are listed throughout the file instead of in one header.
    n_frames: Of all tracks together.
    """

    reordered: bool = False
    fragmented: bool = False
    n_frames: int = 0


def read_header(file: BinaryIO) -> Mp4Header | None:
    """The headers of an mp4, or None if the file is no mp4; leaves the file at its beginning.

    Raises VideoError if they are damaged, or claim more than a file can hold.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        if file.read(8)[4:8] not in _STARTS:
            return None
        header = Mp4Header()
        found = False
        for name, offset, length in _top_boxes(file, size):
            if name in (b"moov", b"moof"):
                found = True
                file.seek(offset)
                _add(header, file.read(length), size)
            if found and not header.fragmented:
                break
    except struct.error as error:
        raise VideoError("the video's header is damaged") from error
    finally:
        file.seek(0)
    if not found:
        raise VideoError("not a readable video (no header in it): it is cut short or damaged")
    return header


def _top_boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and bytes of the body of each box that lies wholly within the file."""
    at = 0
    for _ in range(MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        length, name = struct.unpack(">I4s", head[:8])
        body = at + 8
        if length == 1:
            length, body = struct.unpack(">Q", head[8:16])[0], at + 16
        end = size if length == 0 else at + length
        if end < body or end > size:
            return
        if name != b"mdat" and end - body > MAX_HEADER_BYTES:
            raise VideoError(f"the video's header has {end - body:,} bytes, too many")
        yield name, body, end - body
        at = end
    raise VideoError(f"the video has more than {MAX_BOXES:,} parts")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Boxes within a header and within its tracks, as name and body."""
    at = 0
    while at + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        end = len(data) if length == 0 else at + length
        if end < at + 8 or end > len(data):
            raise VideoError("the video's header is damaged")
        body = data[at + 8 : end]
        if name in _PARENTS:
            yield from _boxes(body)
        else:
            yield name, body
        at = end


def _add(header: Mp4Header, data: bytes, size: int) -> None:
    """Add what a `moov` or `moof` box says; size: bytes of the file, which has no more frames."""
    for name, body in _boxes(data):
        if name in (b"stsz", b"stz2"):
            header.n_frames += struct.unpack(">I", body[8:12])[0]
        elif name == b"trun":
            header.n_frames += struct.unpack(">I", body[4:8])[0]
        elif name in (b"stts", b"ctts"):
            _check_frames(_sum_of_runs(body), size)
            header.reordered = header.reordered or name == b"ctts"
        elif name == b"elst":
            edits = struct.unpack(">I", body[4:8])[0]
            if edits > MAX_EDITS:
                raise VideoError(f"the video's edit list has {edits:,} entries, too many")
        elif name == b"stsd":
            _check_size(body)
        elif name == b"cmov":
            raise VideoError("the video's header is compressed, which is not read")
        elif name == b"mvex":
            header.reordered = header.fragmented = True
    _check_frames(header.n_frames, size)


def _sum_of_runs(body: bytes) -> int:
    """Frames that a table of (how many frames, a number) counts."""
    entries = struct.unpack(">I", body[4:8])[0]
    runs = body[8 : 8 + 8 * min(entries, len(body) // 8 - 1)]
    return sum(n for n, _ in struct.iter_unpack(">II", runs))


def _check_frames(n_frames: int, size: int) -> None:
    if n_frames > min(MAX_FRAMES, size):
        raise VideoError(f"the video claims {n_frames:,} frames in {size:,} bytes")


def _check_size(body: bytes) -> None:
    """Width and height of a video track's sample entry, the first in its description."""
    if len(body) < 8 + 36 or body[12:16] in (b"mp4a", b"text", b"tmcd"):
        return
    width, height = struct.unpack(">HH", body[8 + 32 : 8 + 36])
    check_size(width, height)


def check_size(width: int, height: int) -> None:
    """Raise VideoError for a frame of more than MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        raise VideoError(
            f"the video claims frames of {width:,} × {height:,}, above {MAX_PIXELS:,} pixels"
        )
