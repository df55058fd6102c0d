"""Images in chunks: JPEG XL without loss, or JPEG, one frame a chunk.

    jxl    JPEG XL, lossless; half of zstd's bytes for a camera, six times its time to decode
    jpeg   quality 95, no chroma subsampling; a quarter of zstd's bytes, and not the same numbers

They turn a chunk [1, height, width, channels] of uint8 into one file of the format (for zarr
itself: zarr_codecs.py). A decoder sees only its own format, and never more pixels than the chunk
has.
"""

import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from dipole.data.core.errors import ConfigError
from dipole.data.store.zarr.jxl_header import jxl_size

JPEG_QUALITY = 95
# The codec's name: Pillow's format. The last is how UMI stores cameras, in zarr version 2.
CODECS = {"dipole_jxl": "JXL", "dipole_jpeg": "JPEG", "imagecodecs_jpegxl": "JXL"}
_OTHERS = ["PNG", "JPEG", "WEBP", "BMP"]
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def encode_image(frame: np.ndarray, image_format: str) -> bytes:
    """One frame [height, width, channels] of uint8 as a file; raises ConfigError where it cannot.

    image_format: JXL, JPEG or PNG.
    """
    channels = frame.shape[-1]
    known = {n: mode for n, mode in _MODES.items() if image_format != "JPEG" or n != 4}
    if frame.dtype != np.uint8 or frame.ndim != 3 or channels not in known:
        raise ConfigError(
            f"a frame of {frame.dtype} {list(frame.shape)} as {image_format}: images are uint8 "
            f"[height, width, channels] with {', '.join(map(str, known))} channels"
        )
    file = io.BytesIO()
    pixels = np.ascontiguousarray(frame[..., 0] if channels == 1 else frame)
    Image.fromarray(pixels).save(file, _plugin(image_format), **_options(image_format))
    return file.getvalue()


def decode_image(raw: bytes, image_format: str, shape: tuple[int, ...]) -> np.ndarray:
    """The frame [height, width, channels] of uint8 in a file of this format.

    Raises ValueError for another size or number of channels than `shape`, and whatever Pillow
    raises for a damaged file.
    """
    if image_format == "JXL":
        _check_size(jxl_size(raw), shape)  # Pillow would decode it when it is opened
    with opened_image(raw, [_plugin(image_format)]) as image:
        _check_size((image.height, image.width), shape)
        mode = _MODES.get(shape[-1])
        if image.mode != mode and not (image.mode == "P" and mode == "RGB"):
            raise ValueError(f"an image of mode {image.mode}, {shape[-1]} channels expected")
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(shape)


def _check_size(size: tuple[int, int], shape: tuple[int, ...]) -> None:
    if size != shape[:2]:
        raise ValueError(f"an image of {size[0]}×{size[1]}, {shape[0]}×{shape[1]} expected")


def decode_any_image(raw: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """As `decode_image`, for the formats that datasets of others hold."""
    with opened_image(raw, _OTHERS) as image:
        if image.format is None:
            raise ValueError("its format is not known")
        return decode_image(raw, image.format, shape)


def opened_image(raw: bytes, formats: list[str]) -> Image.Image:
    """An image of one of these formats, not decoded yet; raises ValueError for anything else."""
    try:
        return Image.open(io.BytesIO(raw), formats=formats)
    except UnidentifiedImageError:
        raise ValueError(f"{len(raw):,} bytes that are no {' or '.join(formats)}") from None


def _plugin(image_format: str) -> str:
    """The format's name, after Pillow has been taught JPEG XL where that is asked for."""
    if image_format == "JXL":
        import pillow_jxl  # noqa: F401  registers itself
    return image_format


def _options(image_format: str) -> dict[str, Any]:
    if image_format == "JXL":
        # Effort 1 decodes four times faster than 3, and camera images are smaller too.
        return {"lossless": True, "effort": 1}
    if image_format == "JPEG":
        return {"quality": JPEG_QUALITY, "subsampling": 0}
    return {"compress_level": 3} if image_format == "PNG" else {}
