"""Where the files of a LeRobot v3.0 dataset lie, and writing small ones whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILES_PER_CHUNK = 1000
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def file_name(number: int, ending: str) -> str:
    """The name of the file with this number, below its folder."""
    chunk, file = divmod(number, FILES_PER_CHUNK)
    return f"chunk-{chunk:03d}/file-{file:03d}.{ending}"


def file_indices(prefix: str, number: int) -> dict[str, int]:
    """What an episode's row says of the file in which it lies."""
    chunk, file = divmod(number, FILES_PER_CHUNK)
    return {f"{prefix}/chunk_index": chunk, f"{prefix}/file_index": file}


def write_json(path: Path, values: Mapping[str, Any] | list[Any]) -> None:
    """Write a JSON file, whole or not at all."""
    beside = path.with_name(path.name + ".partial")
    beside.write_text(json.dumps(values, indent=1))
    os.replace(beside, path)


def whole_number(fps: float) -> float | int:
    """A frame rate as LeRobot writes it: without a point where it is whole."""
    return int(fps) if fps == int(fps) else fps
