"""A decoded frame as RGB, by a conversion of which nothing is left to a library's default.

Brightness is taken as it is, and each colour sample stands for the pixels that it covers (2 × 2 in
most videos): what swscale does by itself where the height is even and samples have 8 bits, in any
version. Its interpolation of odd heights and of 10 bits differs between versions.
"""

from typing import Any

import numpy as np

_KNOWN_COLORSPACES = (1, 4, 5, 6, 7, 9)  # AVColorSpace: BT.709, FCC, BT.601 twice, 240M, BT.2020
_UNSPECIFIED, _FULL_RANGE = 2, 2  # AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_JPEG
_LIMITED_RANGE = 1
_BT601 = 5  # what swscale takes for a video that does not say


class RgbConverter:
    """Converts frames to RGB; keeps swscale's tables from one frame to the next."""

    def __init__(self) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        self._reformatter = VideoReformatter()
        self._interpolation = int(Interpolation.POINT)

    def convert(self, frame: Any) -> np.ndarray:
        """uint8 [height, width, 3] of a decoded frame, an `av.VideoFrame`."""
        options: dict[str, int] = {}
        if not frame.format.is_rgb:
            space, range_ = int(frame.colorspace), int(frame.color_range)
            space = space if space in _KNOWN_COLORSPACES else _BT601
            options["src_colorspace"] = options["dst_colorspace"] = space
            full = range_ == _FULL_RANGE or frame.format.name.startswith("yuvj")
            options["src_color_range"] = _FULL_RANGE if full else _LIMITED_RANGE
        rgb = self._reformatter.reformat(
            frame, format="rgb24", interpolation=self._interpolation, threads=1, **options
        )
        pixels: np.ndarray = rgb.to_ndarray()
        return pixels
