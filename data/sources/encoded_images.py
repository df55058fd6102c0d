"""Encoded images in other people's datasets: their size, and their pixels."""

import io

import numpy as np
from PIL import Image

from dipole.data.core.errors import DataError
from dipole.data.store.zarr.image_codec import decode_any_image

MOST_PIXELS = 2**26  # of one frame; a file of some bytes can claim any number
_FORMATS = ["PNG", "JPEG", "WEBP", "BMP"]
_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4, "P": 3}


def image_shape(raw: bytes) -> tuple[int, int, int] | None:
    """[height, width, channels] of an encoded image, None where it is none that is read
    or claims an absurd size."""
    try:
        with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
            channels = _CHANNELS.get(image.mode)
            if channels is None or image.height * image.width > MOST_PIXELS:
                return None
            return image.height, image.width, channels
    except Exception:  # Pillow raises whatever it likes at a file that is no image
        return None


def decode_frame(raw: bytes, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The image as uint8 of `shape`; raises DataError, beginning with `where`, for any other."""
    try:
        return decode_any_image(raw, shape)
    except Exception as error:  # Pillow raises whatever it likes at a damaged file
        raise DataError(
            f"{where}: the image cannot be decoded ({error}). Mend it, or leave the episode out"
        ) from error
