"""A video file opened by FFmpeg: as the kind of file it is, and within bounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from dipole.data.store.video.clip import VideoError
from dipole.data.store.video.mp4_header import MAX_PIXELS, Mp4Header, check_size, read_header

# FFmpeg would guess, and some kinds of file are lists that make it open others.
_FORMATS = {b"\x1a\x45\xdf\xa3": "matroska", b"RIFF": "avi"}


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The container of a video file, closed afterwards; raises VideoError."""
    if not path.is_file():
        raise VideoError("the video is missing")
    with open(path, "rb") as file:
        container, _ = open_container(file)
        with container:
            yield container


def open_container(file: BinaryIO) -> tuple[Any, Mp4Header | None]:
    """An `av` container, and the header if it is an mp4; raises VideoError."""
    import av

    header = read_header(file)
    kind = "mp4" if header else _FORMATS.get(_first_bytes(file))
    if kind is None:
        raise VideoError("not a readable video (no mp4, mkv, webm or avi): damaged, or not a video")
    bound = {"max_pixels": str(MAX_PIXELS)}
    try:
        container = av.open(file, format=kind, options=bound)
    except (av.FFmpegError, UnicodeDecodeError) as error:  # names and notes in it are text
        raise VideoError(f"not a readable video ({error}): it is cut short or damaged") from error
    try:
        context = video_stream(container).codec_context
        if context is None:
            raise VideoError("its codec is not known: damaged, or not a video")
        check_size(context.width, context.height)
        context.options = {**context.options, **bound}
    except VideoError:
        container.close()
        raise
    return container, header


def video_stream(container: Any) -> Any:
    """The video of a container; raises VideoError if there is none."""
    if not container.streams.video:
        raise VideoError("there is no video in the file")
    return container.streams.video[0]


def av_error() -> type[Exception]:
    """The class of FFmpeg's errors; `av` is imported late."""
    import av

    error: type[Exception] = av.FFmpegError
    return error


def _first_bytes(file: BinaryIO) -> bytes:
    first = file.read(4)
    file.seek(0)
    return first
