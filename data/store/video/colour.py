"""A decoded frame as RGB, by a conversion of which nothing is left to a library's default.

Each colour sample stands for the pixels that it covers, 2 × 2 in most videos: what swscale does in
all its versions where samples have 8 bits and the height is even. Where they have not, or it is
odd, it would interpolate, and differently from version to version: such frames get 8 bits, and one
more row, first.
"""

import re
from typing import Any

import numpy as np

_KNOWN_COLORSPACES = (1, 4, 5, 6, 7, 9)  # AVColorSpace: BT.709, FCC, BT.601 twice, 240M, BT.2020
_BT601 = 5  # what swscale takes for a video that does not say
_LIMITED_RANGE, _FULL_RANGE = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
_DEEP = re.compile(r"(yuv4\d\dp)\d+[lb]e")
_SUBSAMPLED = re.compile(r"yuvj?4[12]\dp")


class RgbConverter:
    """Converts frames to RGB; keeps swscale's tables from one frame to the next."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._to_8_bits, self._to_rgb = VideoReformatter(), VideoReformatter()

    def convert(self, frame: Any) -> np.ndarray:
        """uint8 [height, width, 3] of a decoded frame, an `av.VideoFrame`."""
        name, height = frame.format.name, frame.height
        options = {} if frame.format.is_rgb else _colour_options(frame)
        deep = _DEEP.fullmatch(name)
        if deep or name == "nv12":
            name = deep[1] if deep else "yuv420p"
            frame = _reformat(self._to_8_bits, frame, name, options)
        if height % 2 and _SUBSAMPLED.fullmatch(name):
            frame = _with_one_more_row(frame)
        pixels: np.ndarray = _reformat(self._to_rgb, frame, "rgb24", options).to_ndarray()
        return pixels[:height]


def _reformat(reformatter: Any, frame: Any, name: str, options: dict[str, int]) -> Any:
    from av.video.reformatter import Interpolation

    return reformatter.reformat(
        frame, format=name, interpolation=int(Interpolation.POINT), threads=1, **options
    )


def _colour_options(frame: Any) -> dict[str, int]:
    """What the frame's samples mean, said so that no default is asked."""
    space = int(frame.colorspace)
    space = space if space in _KNOWN_COLORSPACES else _BT601
    full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj")
    return {
        "src_colorspace": space,
        "dst_colorspace": space,
        "src_color_range": _FULL_RANGE if full else _LIMITED_RANGE,
    }


def _with_one_more_row(frame: Any) -> Any:
    """The frame with its last row twice; its last row of colours covers both already."""
    import av

    padded = av.VideoFrame(frame.width, frame.height + 1, frame.format.name)
    for source, target in zip(frame.planes, padded.planes, strict=True):
        samples = np.zeros((target.height, target.line_size), np.uint8)
        rows = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)
        chosen = np.minimum(np.arange(target.height), source.height - 1)
        samples[:, : source.width] = rows[chosen, : source.width]
        target.update(samples.tobytes())
    padded.color_range, padded.colorspace = frame.color_range, frame.colorspace
    return padded
