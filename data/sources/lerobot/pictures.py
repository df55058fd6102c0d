"""Pictures in columns of parquet files: bytes, or a struct {bytes, path}, decoded to arrays."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from dipole.data.core.errors import DataError
from dipole.data.sources.lerobot.folder import DatasetFolder
from dipole.data.store.schema import FrameSchema
from dipole.data.store.zarr.image_codec import decode_any_picture

_DEPTH_FORMATS = ["PNG", "TIFF"]
_DEPTH_MODES = {"I;16": np.uint16, "I;16B": np.uint16, "I": np.uint16, "F": np.float32}


def pictures(
    array: Any, schema: FrameSchema, place: str, start: int, folder: DatasetFolder
) -> np.ndarray:
    """An arrow array of picture files as [N, height, width, channels] of the schema's dtype.

    start: Number of the first one, for errors. Raises DataError, naming the frame.
    """
    shape = schema.shape or ()
    frames = np.empty((len(array), *shape), schema.dtype)
    for n, entry in enumerate(array):
        try:
            raw = picture_bytes(entry.as_py(), folder)
            frames[n] = (
                decode_depth(raw, schema)
                if schema.kind == "depth"
                else decode_any_picture(raw, shape)
            )
        except Exception as error:  # Pillow raises whatever it likes at a damaged file
            raise DataError(
                f"{place}, frame {start + n}: the picture cannot be decoded ({error}). "
                "Mend it, or leave the episode out"
            ) from error
    return frames


def picture_bytes(value: Any, folder: DatasetFolder) -> bytes:
    """The file of one picture; raises ValueError where there is none."""
    raw = value.get("bytes") if isinstance(value, Mapping) else value
    if raw is None and isinstance(value, Mapping) and value.get("path"):
        raw = folder.file(str(value["path"])).read_bytes()
    if not isinstance(raw, bytes):
        raise ValueError("there is none")
    return raw


def depth_dtype(raw: bytes) -> np.dtype[Any] | None:
    """uint16 or float32 where a file is a picture of depth, None where it is of another sort."""
    try:
        with Image.open(io.BytesIO(raw), formats=_DEPTH_FORMATS) as picture:
            dtype = _DEPTH_MODES.get(picture.mode)
            return None if dtype is None else np.dtype(dtype)
    except Exception:  # not one of these formats, or damaged: said when it is decoded
        return None


def decode_depth(raw: bytes, schema: FrameSchema) -> np.ndarray:
    """Depth [height, width, 1] of the schema's dtype; raises ValueError for other pictures."""
    shape = schema.shape or ()
    with Image.open(io.BytesIO(raw), formats=_DEPTH_FORMATS) as picture:
        if (picture.height, picture.width) != shape[:2]:
            raise ValueError(
                f"a picture of {picture.height}×{picture.width}, {shape[0]}×{shape[1]} expected"
            )
        if _DEPTH_MODES.get(picture.mode) != schema.dtype:
            raise ValueError(f"a picture of mode {picture.mode}, depth of {schema.dtype} expected")
        values = np.asarray(picture)
    if values.min() < 0 or (schema.dtype == np.uint16 and values.max() > 65535):
        raise ValueError("its depth does not fit into 16 bits")
    return values.astype(schema.dtype).reshape(shape)
