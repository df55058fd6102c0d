"""The schema of frames after a first look into the files, beside what meta/info.json says.

The size and rate of a video, the sort of depth pictures, and whether float64 is needed are looked
up in the files of the first episode that has them.
"""

from dataclasses import replace

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.precision import loses_precision
from dipole.data.sources.lerobot.columns import numbers
from dipole.data.sources.lerobot.data_files import DataFile, DataFiles
from dipole.data.sources.lerobot.folder import DatasetFolder
from dipole.data.sources.lerobot.images import depth_dtype, image_bytes
from dipole.data.sources.lerobot.meta import LeRobotMeta
from dipole.data.sources.lerobot.timing import RATE_TOLERANCE
from dipole.data.sources.lerobot.video_files import VideoHeader
from dipole.data.store.schema import FrameSchema
from dipole.data.store.video import VideoError


def inspected_frames(
    folder: DatasetFolder, meta: LeRobotMeta, files: DataFiles
) -> tuple[dict[str, FrameSchema], dict[str, str], list[str]]:
    """The schema by key, why further keys are left out, and warnings."""
    frames = dict(meta.frames)
    left_out: dict[str, str] = {}
    warnings: list[str] = []
    for key, schema in meta.frames.items():
        if schema.storage == "video":
            header = _first_header(folder, meta, key)
            if header is not None and header.is_depth:
                left_out[key] = f"depth as video ({header.pixels}) is not read"
                del frames[key]
            elif header is not None:
                frames[key], odd = _inspected_video(key, schema, header, meta.fps)
                warnings += odd
        elif schema.kind in ("image", "depth") and (schema.shape or (0,))[-1] == 1:
            frames[key] = _inspected_depth(folder, key, schema, _first_file(meta, files))
        elif schema.dtype == np.float64:
            frames[key] = _inspected_float(key, schema, _first_file(meta, files))
    return frames, left_out, warnings


def _first_header(folder: DatasetFolder, meta: LeRobotMeta, key: str) -> VideoHeader | None:
    """Of the first video of a camera that can be read; the others are named when they are."""
    for name in meta.episodes.videos[key].names:
        if folder.has(name):
            try:
                return VideoHeader.of(folder.file(name))
            except VideoError:
                return None
    return None


def _inspected_video(
    key: str, schema: FrameSchema, header: VideoHeader, fps: float
) -> tuple[FrameSchema, list[str]]:
    shape, warnings = (header.height, header.width, 3), []
    if shape != schema.shape:
        warnings.append(
            f"{key!r}: meta/info.json says shape {list(schema.shape or ())}, and its video has "
            f"pictures of {list(shape)}: those are taken"
        )
    rate = header.rate
    if rate is not None and abs(rate / fps - 1) > RATE_TOLERANCE:
        warnings.append(
            f"{key!r}: its video runs at {rate:.4g} frames a second, the rows at {fps:g}: the "
            "pictures nearest in time are taken, decoded"
        )
        return replace(schema, shape=shape, storage=""), warnings
    return replace(schema, shape=shape), warnings


def _first_file(meta: LeRobotMeta, files: DataFiles) -> DataFile | None:
    """Of the first episode; None where it cannot be read, which is said when it is opened."""
    try:
        return files.file(meta.episodes.data.name(0))
    except DataError:
        return None


def _inspected_depth(
    folder: DatasetFolder, key: str, schema: FrameSchema, file: DataFile | None
) -> FrameSchema:
    """Depth as its pictures are; pictures of 16 bits are depth also where nobody says so."""
    if file is None or key not in file.columns or not file.n_rows:
        return schema
    try:
        first = file.read(key, np.zeros(1, np.int64))[0].as_py()
        dtype = depth_dtype(image_bytes(first, folder))
    except (DataError, ValueError, OSError):
        return schema
    if dtype is None:
        return schema
    units = schema.units
    if schema.kind == "depth" and not units:
        units = "m" if dtype == np.float32 else "mm"  # as LeRobot takes them
    return replace(schema, kind="depth", dtype=dtype, units=units)


def _inspected_float(key: str, schema: FrameSchema, file: DataFile | None) -> FrameSchema:
    """float64 becomes float32, unless that cannot tell its numbers apart."""
    narrow = replace(schema, dtype=np.dtype(np.float32))
    if file is None or key not in file.columns:
        return narrow
    try:
        values = numbers(file.read(key, np.arange(file.n_rows)), schema.shape or (), key)
    except DataError:
        return narrow
    return schema if loses_precision(values) else narrow
