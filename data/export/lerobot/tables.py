"""The files of a LeRobot v3.0 dataset as tables: columns and their types, and tasks.

What readers trip over, and is therefore so: `tasks.parquet` carries pandas' description of its
index, or every task silently reads as the first; its row i is task i; vectors are lists of a fixed
size; a picture is a struct of bytes and path, declared as such for `datasets`. Depth is a picture
of one channel: PNG of 16 bits, or TIFF where its numbers are float32.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from dipole.data.store.zarr.image_codec import encode_image


def data_schema(declared: Mapping[str, Mapping[str, Any]]) -> Any:
    """The arrow schema of data/, with what `datasets` reads of it. declared: `features`."""
    import pyarrow as pa

    stored = {key: entry for key, entry in declared.items() if entry["dtype"] != "video"}
    fields = [pa.field(key, _type(entry)) for key, entry in stored.items()]
    described = {"info": {"features": {key: _declared(entry) for key, entry in stored.items()}}}
    return pa.schema(fields, {"huggingface": json.dumps(described)})


def column(values: np.ndarray, entry: Mapping[str, Any]) -> Any:
    """Frames of one key as an arrow array of the type that `data_schema` gives it."""
    import pyarrow as pa

    if entry["dtype"] == "image":
        depth = (entry.get("info") or {}).get("is_depth_map")
        encode = encode_depth if depth else encode_png
        rows = [{"bytes": encode(frame), "path": None} for frame in values]
        return pa.array(rows, _type(entry))
    kind, shape = _type(entry), tuple(entry["shape"])
    flat = pa.array(values.reshape(-1))
    if shape == (1,):
        return flat.cast(kind)
    if len(shape) == 1:
        return pa.FixedSizeListArray.from_arrays(flat, shape[0])
    return pa.array(values.tolist(), kind)


def encode_png(frame: np.ndarray) -> bytes:
    """A picture uint8 [height, width, channels] as a file."""
    return encode_image(frame, "PNG")


def encode_depth(frame: np.ndarray) -> bytes:
    """Depth uint16 or float32 [height, width(, 1)] as a file, without loss."""
    pixels = np.ascontiguousarray(frame.reshape(frame.shape[:2]))
    file = io.BytesIO()
    if pixels.dtype == np.uint16:
        Image.fromarray(pixels).save(file, "PNG", compress_level=3)
    else:
        Image.fromarray(pixels.astype(np.float32)).save(file, "TIFF", compression="tiff_deflate")
    return file.getvalue()


def _type(entry: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    if entry["dtype"] == "image":
        return pa.struct({"bytes": pa.binary(), "path": pa.string()})
    kind = pa.from_numpy_dtype(np.dtype(entry["dtype"]))
    shape = entry["shape"]
    if shape == [1]:
        return kind
    if len(shape) == 1:
        return pa.list_(kind, shape[0])
    for _ in shape:
        kind = pa.list_(kind)
    return kind


def _declared(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A feature as the library `datasets` writes it down."""
    if entry["dtype"] == "image":
        return {"_type": "Image"}
    value, shape = {"dtype": entry["dtype"], "_type": "Value"}, entry["shape"]
    if shape == [1]:
        return value
    if len(shape) == 1:
        return {"feature": value, "length": shape[0], "_type": "Sequence"}
    return {"shape": shape, "dtype": entry["dtype"], "_type": f"Array{len(shape)}D"}


def tasks_table(words: Sequence[str]) -> Any:
    """meta/tasks.parquet: row i is task i, and the words are the index of pandas."""
    import pyarrow as pa

    described = [
        _described("task_index", "int64", "int64"),
        _described("task", "unicode", "object"),
    ]
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [
            {**_described(None, "unicode", "object"), "metadata": {"encoding": "UTF-8"}}
        ],
        "columns": described,
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": pa.array(range(len(words)), pa.int64()), "task": [*words]})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _described(name: str | None, pandas: str, numpy: str) -> dict[str, Any]:
    kinds = {"pandas_type": pandas, "numpy_type": numpy}
    return {"name": name, "field_name": name, **kinds, "metadata": None}
