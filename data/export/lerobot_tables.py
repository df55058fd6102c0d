"""The files of a LeRobot v3.0 dataset as tables: columns and their types, statistics, tasks.

What readers trip over, and is therefore so: `tasks.parquet` carries pandas' description of its
index, or every task silently reads as the first; its row i is task i; vectors are lists of a fixed
size; a picture is a struct of bytes and path, declared as such for `datasets`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dipole.data.store.schema import FrameSchema
from dipole.data.store.zarr.image_codec import encode_picture

COUNTERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")


def lerobot_key(key: str, schema: FrameSchema) -> str:
    """A key by LeRobot's convention: `state` → `observation.state`, a camera among the images."""
    if key == "action" or key.startswith(("observation.", "next.", "action.")):
        return key
    return f"observation.images.{key}" if schema.kind == "image" else f"observation.{key}"


def is_picture(schema: FrameSchema) -> bool:
    return schema.kind == "image" and schema.dtype == np.uint8 and len(schema.shape or ()) == 3


def features(frames: Mapping[str, FrameSchema], videos: Mapping[str, Any]) -> dict[str, Any]:
    """`features` of info.json. videos: for each key stored as video, its `info`."""
    said = {}
    for key, schema in frames.items():
        shape = list(schema.shape or ()) or [1]
        entry: dict[str, Any] = {"dtype": np.dtype(schema.dtype).name, "shape": shape}
        entry["names"] = list(schema.names) or None
        if is_picture(schema):
            entry["dtype"] = "video" if key in videos else "image"
            entry["names"] = ["height", "width", "channels"]
        if key in videos:
            entry["info"] = videos[key]
        said[lerobot_key(key, schema)] = entry
    counter = {"shape": [1], "names": None}
    said["timestamp"] = {"dtype": "float32", **counter}
    return said | {name: {"dtype": "int64", **counter} for name in COUNTERS[1:]}


def data_schema(said: Mapping[str, Mapping[str, Any]]) -> Any:
    """The arrow schema of data/, with what `datasets` reads of it. said: `features`."""
    import pyarrow as pa

    stored = {key: entry for key, entry in said.items() if entry["dtype"] != "video"}
    fields = [pa.field(key, _type(entry)) for key, entry in stored.items()]
    declared = {"info": {"features": {key: _declared(entry) for key, entry in stored.items()}}}
    return pa.schema(fields, {"huggingface": json.dumps(declared)})


def column(values: np.ndarray, entry: Mapping[str, Any]) -> Any:
    """Frames of one key as an arrow array of the type that `data_schema` gives it."""
    import pyarrow as pa

    if entry["dtype"] == "image":
        rows = [{"bytes": encode_picture(frame, "PNG"), "path": None} for frame in values]
        return pa.array(rows, _type(entry))
    kind, shape = _type(entry), tuple(entry["shape"])
    flat = pa.array(values.reshape(-1))
    if shape == (1,):
        return flat.cast(kind)
    if len(shape) == 1:
        return pa.FixedSizeListArray.from_arrays(flat, shape[0])
    return pa.array(values.tolist(), kind)


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


class FrameStatistics:
    """min, max, mean, std (of the population) and count of numbers, as LeRobot has them."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Any]] = []

    def add(self, frames: np.ndarray) -> None:
        """frames: [N, *shape], N above 0."""
        values = frames.reshape(len(frames), -1) if frames.ndim < 2 else frames
        values = values.astype(np.float64)
        made = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0)}
        self._parts.append({**made, "std": values.std(0), "count": [len(frames)]})

    def result(self) -> dict[str, Any]:
        """Plain lists, as they go into files."""
        return together(self._parts)


class PictureStatistics:
    """The same of pictures: per channel, over [0, 1], [channels, 1, 1]; exact, by counting."""

    def __init__(self) -> None:
        self._frames = 0
        self._counts: np.ndarray = np.zeros((0, 256))

    def add(self, frames: np.ndarray) -> None:
        """frames: uint8 [N, height, width, channels], N above 0."""
        self._frames += len(frames)
        channels = np.moveaxis(frames, -1, 0)
        counts = [np.bincount(channel.ravel(), minlength=256) for channel in channels]
        self._counts = np.stack(counts) + (self._counts if len(self._counts) else 0)

    def result(self) -> dict[str, Any]:
        """Plain lists, as they go into files."""
        share = self._counts / self._counts.sum(1, keepdims=True)
        level = np.arange(256) / 255
        mean = share @ level
        seen = [np.flatnonzero(counts) for counts in self._counts]
        made = {
            "min": level[[values[0] for values in seen]],
            "max": level[[values[-1] for values in seen]],
            "mean": mean,
            "std": np.sqrt((share * (level - mean[:, None]) ** 2).sum(1)),
        }
        lists = {name: value[:, None, None].tolist() for name, value in made.items()}
        return {**lists, "count": [self._frames]}


def together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Statistics of all frames from those of their episodes."""
    count = np.array([part["count"][0] for part in parts], np.float64)
    low, high, mean, std = (
        np.array([part[name] for part in parts]) for name in ("min", "max", "mean", "std")
    )
    weight = (count / count.sum()).reshape(-1, *[1] * (mean.ndim - 1))
    overall = (weight * mean).sum(0)
    variance = (weight * (std**2 + (mean - overall) ** 2)).sum(0)
    return {
        "min": low.min(0).tolist(),
        "max": high.max(0).tolist(),
        "mean": overall.tolist(),
        "std": np.sqrt(variance).tolist(),
        "count": [int(count.sum())],
    }
