"""Parquet files of meta/, as arrow tables with sound columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError


def read_table(path: Path, columns: Sequence[str] | None = None) -> Any:
    """Those of the columns that a parquet file has, None for all; raises DataError for damage."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        wanted = None if columns is None else [name for name in columns if name in names]
        return pq.read_table(path, columns=wanted, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Copy the dataset again") from error


def numeric_column(path: Path, table: Any, name: str, dtype: Any = np.int64) -> np.ndarray:
    """A column as [N] of `dtype`; raises DataError where it is missing or has gaps."""
    if name not in table.column_names:
        raise DataError(f"{path}: no column {name!r}. Copy the dataset again")
    column = table[name]
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise DataError(f"{path}: {name!r} is empty in row {row}. Copy the dataset again")
    values = column.to_numpy()
    if values.dtype.kind not in "iuf":
        raise DataError(f"{path}: {name!r} has entries of type {column.type}, not numbers")
    cast: np.ndarray = values.astype(dtype)
    if not np.array_equal(cast, values):
        raise DataError(f"{path}: {name!r} has numbers that are not {np.dtype(dtype)}")
    return cast
