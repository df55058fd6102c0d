"""Columns of parquet files as numpy: numbers in lists of any sort, and pictures as files."""

from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.zarr.image_codec import decode_any_picture


def read_rows(path: Path, column: str, episode: int, n_frames: int) -> Any:
    """A column of one episode's rows, as one arrow array in the order of frame_index.

    Raises DataError where the file, the column or some of the rows are missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = f"{path}: episode {episode}"
    if not path.is_file():
        raise DataError(f"{place}: the file is missing. Copy it again, or leave the episode out")
    try:
        rows = pq.read_table(
            path,
            columns=sorted({column, "episode_index", "frame_index"}),
            filters=[("episode_index", "=", episode)],
            partitioning=None,
        )
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DataError(f"{place}, {column!r}: cannot be read ({error}). Copy it again") from error
    frames = rows["frame_index"].to_numpy() if "frame_index" in rows.column_names else None
    if len(rows) != n_frames or column not in rows.column_names:
        what = f"{len(rows)} frames of {n_frames}" if column in rows.column_names else "no column"
        raise DataError(f"{place}, {column!r}: {what}. Copy it again, or leave the episode out")
    if frames is not None and not np.array_equal(frames, np.arange(n_frames)):
        rows = rows.take(np.argsort(frames, kind="stable"))
    return rows[column].combine_chunks()


def numbers(array: Any, shape: tuple[int, ...], place: str) -> np.ndarray:
    """An arrow array of numbers or nested lists as [N, *shape]; raises DataError, naming frames."""
    from pyarrow import types

    lists = (types.is_fixed_size_list, types.is_list, types.is_large_list)
    n_frames = len(array)
    while True:
        if array.null_count:
            frame = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            where = f"frame {frame}" if len(array) == n_frames else "an entry"
            raise DataError(f"{place}: {where} is empty. Mend it, or leave the episode out")
        if isinstance(array.type, _extension()):
            array = array.storage
        elif any(is_list(array.type) for is_list in lists):
            array = array.flatten()
        else:
            break
    size = int(np.prod(shape, dtype=np.int64))
    if len(array) != n_frames * size:
        raise DataError(
            f"{place}: {len(array)} numbers in {n_frames} frames, {size} a frame by meta/info.json"
        )
    values: np.ndarray = array.to_numpy(zero_copy_only=False)
    return values.reshape(n_frames, *shape)


def pictures(array: Any, shape: tuple[int, ...], place: str, start: int, root: Path) -> np.ndarray:
    """Files of pictures, bytes or {bytes, path}, as uint8 [N, height, width, channels].

    start: number of the first one, for errors. Raises DataError, naming the frame.
    """
    frames = np.empty((len(array), *shape), np.uint8)
    for n, entry in enumerate(array):
        value = entry.as_py()
        try:
            raw = value.get("bytes") if isinstance(value, dict) else value
            if raw is None and isinstance(value, dict) and value.get("path"):
                raw = _inside(root, value["path"]).read_bytes()
            if not isinstance(raw, bytes):
                raise ValueError("there is none")
            frames[n] = decode_any_picture(raw, shape)
        except Exception as error:  # Pillow raises whatever it likes at a damaged file
            raise DataError(
                f"{place}, frame {start + n}: the picture cannot be decoded ({error}). "
                "Mend it, or leave the episode out"
            ) from error
    return frames


def _inside(root: Path, name: str) -> Path:
    """A file that the dataset names, which must be its own."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"{name!r} lies outside the dataset")
    return path


def _extension() -> type:
    import pyarrow as pa

    extension: type = pa.BaseExtensionType
    return extension
