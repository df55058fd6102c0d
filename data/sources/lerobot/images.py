"""Images in columns of parquet files: bytes, or a struct {bytes, path}, decoded to arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.lerobot.folder import DatasetFolder
from dipole.data.store.schema import FrameSchema
from dipole.data.store.zarr.image_codec import decode_any_image, opened_image

_DEPTH_FORMATS = ["PNG", "TIFF"]
_DEPTH_MODES = {"I;16": np.uint16, "I;16B": np.uint16, "I": np.uint16, "F": np.float32}


def images(
    array: Any, schema: FrameSchema, place: str, start: int, folder: DatasetFolder
) -> np.ndarray:
    """An arrow array of image files as [N, height, width, channels] of the schema's dtype.

    start: Number of the first one, for errors. Raises DataError, naming the frame.
    """
    shape = schema.shape or ()
    frames = np.empty((len(array), *shape), schema.dtype)
    for n, entry in enumerate(array):
        try:
            raw = image_bytes(entry.as_py(), folder)
            frames[n] = (
                decode_depth(raw, schema)
                if schema.kind == "depth"
                else decode_any_image(raw, shape)
            )
        except Exception as error:  # Pillow raises whatever it likes at a damaged file
            raise DataError(
                f"{place}, frame {start + n}: the image cannot be decoded ({error}). "
                "Mend it, or leave the episode out"
            ) from error
    return frames


def image_bytes(value: Any, folder: DatasetFolder) -> bytes:
    """The file of one image; raises ValueError where there is none."""
    raw = value.get("bytes") if isinstance(value, Mapping) else value
    if raw is None and isinstance(value, Mapping) and value.get("path"):
        raw = folder.file(str(value["path"])).read_bytes()
    if not isinstance(raw, bytes):
        raise ValueError("there is none")
    return raw


def depth_dtype(raw: bytes) -> np.dtype[Any] | None:
    """uint16 or float32 where a file is an image of depth, None where it is of another sort."""
    try:
        with opened_image(raw, _DEPTH_FORMATS) as image:
            dtype = _DEPTH_MODES.get(image.mode)
            return None if dtype is None else np.dtype(dtype)
    except Exception:  # not one of these formats, or damaged: said when it is decoded
        return None


def decode_depth(raw: bytes, schema: FrameSchema) -> np.ndarray:
    """Depth [height, width, 1] of the schema's dtype; raises ValueError for other images."""
    shape = schema.shape or ()
    with opened_image(raw, _DEPTH_FORMATS) as image:
        if (image.height, image.width) != shape[:2]:
            raise ValueError(
                f"an image of {image.height}×{image.width}, {shape[0]}×{shape[1]} expected"
            )
        if _DEPTH_MODES.get(image.mode) != schema.dtype:
            raise ValueError(f"an image of mode {image.mode}, depth of {schema.dtype} expected")
        values = np.asarray(image)
    if values.min() < 0 or (schema.dtype == np.uint16 and values.max() > 65535):
        raise ValueError("its depth does not fit into 16 bits")
    return values.astype(schema.dtype).reshape(shape)
