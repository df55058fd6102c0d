"""Encoded pictures in other people's datasets: their size, and their pixels."""

import io

import numpy as np
from PIL import Image

from dipole.data.core.errors import DataError
from dipole.data.store.zarr.image_codec import decode_any_picture

MOST_PIXELS = 2**26  # of one frame; a file of some bytes can claim any number
_FORMATS = ["PNG", "JPEG", "WEBP", "BMP"]
_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4, "P": 3}


def picture_shape(raw: bytes) -> tuple[int, int, int] | None:
    """[height, width, channels] of an encoded picture, None where it is none that is read
    or claims an absurd size."""
    try:
        with Image.open(io.BytesIO(raw), formats=_FORMATS) as picture:
            channels = _CHANNELS.get(picture.mode)
            if channels is None or picture.height * picture.width > MOST_PIXELS:
                return None
            return picture.height, picture.width, channels
    except Exception:  # Pillow raises whatever it likes at a file that is no picture
        return None


def decode_frame(raw: bytes, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The picture as uint8 of `shape`; raises DataError, beginning with `where`, for any other."""
    try:
        return decode_any_picture(raw, shape)
    except Exception as error:  # Pillow raises whatever it likes at a damaged file
        raise DataError(
            f"{where}: the picture cannot be decoded ({error}). Mend it, or leave the episode out"
        ) from error
