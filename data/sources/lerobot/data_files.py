"""The parquet files of frames: each is opened once, and each of its columns read once.

Columns of numbers are read whole, those of pictures by row group. What was read last is kept, up to
CACHE_BYTES, so that reading many short episodes of a file costs one read of it.
"""

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.lerobot.columns import numbers
from dipole.data.sources.lerobot.folder import DatasetFolder
from dipole.data.sources.lerobot.tables import check_size

CACHE_BYTES = 256 * 2**20  # of columns as they lie in the files, in all
OPEN_FILES = 16
_COUNTERS = ("episode_index", "frame_index", "timestamp", "task_index")


class DataFiles:
    """Files of frames by their names within the dataset."""

    def __init__(self, folder: DatasetFolder) -> None:
        self._folder = folder
        self._open: OrderedDict[str, DataFile] = OrderedDict()
        self._cache = ArrowCache(CACHE_BYTES)

    def file(self, name: str) -> "DataFile":
        """The opened file; raises DataError where it is missing or damaged."""
        if name not in self._open:
            self._open[name] = DataFile(self._folder, name, self._cache)
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(name)
        return self._open[name]

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()


class DataFile:
    """One parquet file. columns: their names."""

    def __init__(self, folder: DatasetFolder, name: str, cache: "ArrowCache") -> None:
        import pyarrow.parquet as pq

        self.path = folder.file(name)
        self._name, self._cache = name, cache
        if not self.path.is_file():
            raise DataError(f"{self.path}: the file is missing. Copy it again")
        self._file = self._checked(lambda: pq.ParquetFile(self.path))
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        counters = [column for column in _COUNTERS if column in self.columns]
        for column in counters:
            check_size(self.path, self._file.metadata, column)
        table = self._checked(lambda: self._file.read(columns=counters))
        self._counters = {column: _numbers(self.path, column, table[column]) for column in counters}
        groups = [
            self._file.metadata.row_group(n).num_rows for n in range(self._file.num_row_groups)
        ]
        self._group_ends = np.cumsum(groups) if groups else np.zeros(0, np.int64)
        self.n_rows = int(self._group_ends[-1]) if groups else 0
        episodes = self._counters.get("episode_index")
        self._order = None if episodes is None else np.argsort(episodes, kind="stable")
        self._sorted = None if self._order is None else episodes[self._order]  # type: ignore[index]

    def close(self) -> None:
        self._file.close()

    def rows(self, episode: int) -> np.ndarray:
        """The rows of an episode in the order in which they lie, int64 [n]."""
        if self._order is None or self._sorted is None:
            return np.arange(self.n_rows)
        first, last = np.searchsorted(self._sorted, [episode, episode + 1])
        rows: np.ndarray = self._order[first:last]
        return rows

    def counter(self, column: str, rows: np.ndarray) -> np.ndarray | None:
        """Numbers of episode_index, frame_index, timestamp or task_index; None where absent."""
        values = self._counters.get(column)
        return None if values is None else values[rows]

    def read(self, column: str, rows: np.ndarray) -> Any:
        """A column's entries in these rows, as one arrow array; raises DataError for damage."""
        import pyarrow as pa

        if column not in self.columns:
            raise DataError(f"{self.path}: no column {column!r}. Copy it again, or leave it out")
        if not self._by_group(column):
            return _take(self._column(column, None), rows)
        groups = np.searchsorted(self._group_ends, rows, side="right")
        starts = np.concatenate([[0], np.flatnonzero(np.diff(groups)) + 1, [len(rows)]]).tolist()
        parts = []
        for start, stop in pairwise(starts):
            group = int(groups[start]) if start < len(rows) else 0
            before = int(self._group_ends[group - 1]) if group else 0
            parts.append(_take(self._column(column, group), rows[start:stop] - before))
        return pa.concat_arrays(parts) if len(parts) > 1 else parts[0]

    def _column(self, column: str, group: int | None) -> Any:
        def read() -> Any:
            check_size(self.path, self._file.metadata, column, group)
            table = (
                self._file.read(columns=[column])
                if group is None
                else self._file.read_row_group(group, columns=[column])
            )
            return table[column].combine_chunks()

        key = (self._name, column, group)
        return self._cache.get(key, lambda: self._checked(read))

    def _by_group(self, column: str) -> bool:
        """Whether the column holds pictures, which are large."""
        from pyarrow import types

        kind = self._file.schema_arrow.field(column).type
        return bool(types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind))

    def _checked(self, read: Callable[[], Any]) -> Any:
        import pyarrow as pa

        try:
            return read()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{self.path}: cannot be read ({error}). Copy it again") from error


class ArrowCache:
    """The arrow arrays that were used last, up to a number of bytes, and always the very last."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._arrays: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, read: Callable[[], Any]) -> Any:
        """The array, read where it is not kept."""
        if key not in self._arrays:
            self._arrays[key] = array = read()
            self._size += array.nbytes
            while self._size > self._limit and len(self._arrays) > 1:
                self._size -= self._arrays.popitem(last=False)[1].nbytes
        self._arrays.move_to_end(key)
        return self._arrays[key]


def _take(array: Any, rows: np.ndarray) -> Any:
    """Rows of an arrow array, without a copy where they follow each other."""
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return array.slice(int(rows[0]), len(rows))
    return array.take(rows)


def _numbers(path: Any, name: str, column: Any) -> np.ndarray:
    """A counter as [N]; it may be a list of one number."""
    return numbers(column.combine_chunks(), (), f"{path}: {name!r}")
