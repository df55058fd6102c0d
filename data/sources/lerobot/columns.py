"""Columns of parquet files as numpy: numbers in lists of any sort."""

import math
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError


def numbers(array: Any, shape: tuple[int, ...], place: str, start: int = 0) -> np.ndarray:
    """An arrow array of numbers or nested lists as [N, *shape].

    start: Number of the first frame, for errors.
    Raises DataError, naming the frame, where one is empty or has another number of entries.
    """
    n_frames, per_frame = len(array), 1
    size = math.prod(shape)
    while True:
        array = array.storage if isinstance(array.type, _extension()) else array
        if array.null_count:
            entry = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            frame = start + entry // per_frame
            raise DataError(f"{place}, frame {frame}: empty. Mend it, or leave the episode out")
        lengths = _list_lengths(array)
        if lengths is None:
            break
        usual = int(np.median(lengths)) if len(lengths) else 1
        wrong = np.flatnonzero(lengths != usual)
        if len(wrong):
            count = int(lengths[wrong[0]])
            raise DataError(
                f"{place}, frame {start + int(wrong[0]) // per_frame}: a list of {count} numbers; "
                f"meta/info.json says shape {list(shape)}. Mend it, or leave the episode out"
            )
        per_frame *= usual
        array = array.flatten()
    if len(array) != n_frames * size:
        raise DataError(
            f"{place}: {per_frame} numbers a frame; meta/info.json says shape {list(shape)}. "
            "Correct the shape there, or leave the key out"
        )
    values: np.ndarray = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "biuf":
        raise DataError(f"{place}: entries of type {array.type}, not numbers. Leave the key out")
    return values.reshape(n_frames, *shape)


def _list_lengths(array: Any) -> np.ndarray | None:
    """Entries of each list, int64 [N]; None where the array holds no lists."""
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_fixed_size_list(array.type):
        return np.full(len(array), array.type.list_size, np.int64)
    if types.is_list(array.type) or types.is_large_list(array.type):
        lengths: np.ndarray = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        return lengths.astype(np.int64)
    return None


def _extension() -> type:
    import pyarrow as pa

    extension: type = pa.BaseExtensionType
    return extension
