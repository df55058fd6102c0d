"""Parquet files of meta/, as arrow tables with sound columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError

LARGEST = 2 * 2**30  # bytes that are read at once, of one column


def read_table(path: Path, columns: Sequence[str] | None = None) -> Any:
    """Those of the columns that a parquet file has, None for all; raises DataError for damage."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [name for name in (names if columns is None else columns) if name in names]
            for name in wanted:
                check_size(path, file.metadata, name)
            return file.read(columns=wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Copy the dataset again") from error


def check_size(path: Path, metadata: Any, column: str, group: int | None = None) -> None:
    """Raise DataError where a column would take more than LARGEST bytes of memory.

    A few bytes of a file may stand for any number of equal values, so that they are counted before
    they are read. group: One row group of it, None for all.
    """
    groups = range(metadata.num_row_groups) if group is None else [group]
    size = 0
    for n in groups:
        chunks = (metadata.row_group(n).column(k) for k in range(metadata.num_columns))
        for chunk in chunks:
            if chunk.path_in_schema == column or chunk.path_in_schema.startswith(f"{column}."):
                size += max(8 * chunk.num_values, chunk.total_uncompressed_size)
    if size > LARGEST:
        raise DataError(
            f"{path}: {column!r} would take {size:,} bytes of memory, more than "
            f"{LARGEST:,}: the file is damaged, or not meant well"
        )


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
