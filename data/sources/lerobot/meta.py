"""What the folder meta/ of a LeRobot dataset says, in versions 2.0, 2.1 and 3.0.

    2.x  one parquet and one video file an episode; meta/episodes.jsonl, meta/tasks.jsonl
    3.0  many episodes in a file; meta/episodes/*/*.parquet says where each lies, meta/tasks.parquet

Nothing is believed that can be looked up: statistics are not read at all.
"""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dipole.data.core.errors import DataError
from dipole.data.core.json_files import read_json, read_json_lines
from dipole.data.sources.source import positive_number

_FIELDS = {
    "episode_chunk", "episode_index", "video_key", "chunk_index", "file_index", "total_episodes"
}  # fmt: skip


@dataclass(frozen=True)
class VideoPlace:
    """A video file, and from which second of it the episode runs."""

    path: Path
    from_second: float = 0.0


@dataclass(frozen=True)
class LeRobotEpisode:
    """An episode's row: its number, length, words of its tasks, and the files it lies in."""

    number: int
    n_frames: int
    tasks: list[str]
    data: Path
    videos: dict[str, VideoPlace] = field(default_factory=dict)


@dataclass(frozen=True)
class LeRobotMeta:
    """meta/ as it stands: version "2.1" or "3.0", features as in info.json, tasks by number."""

    version: str
    fps: float
    robot: str
    features: dict[str, dict[str, Any]]
    tasks: dict[int, str]
    episodes: list[LeRobotEpisode]


def read_meta(root: Path) -> LeRobotMeta:
    """Read meta/ of the dataset in the folder `root`; raises DataError where it does not hold."""
    where = root / "meta" / "info.json"
    info = read_json(where)
    version = str(info.get("codebase_version", "")).removeprefix("v")
    if version not in ("2.0", "2.1", "3.0"):
        raise DataError(
            f"{where}: LeRobot version {info.get('codebase_version')!r}; 2.0, 2.1 and 3.0 are read"
        )
    features = info.get("features")
    if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
        raise DataError(f"{where}: no features. Copy the dataset again")
    fps = positive_number(info.get("fps"))
    if fps is None:
        raise DataError(f"{where}: fps is {info.get('fps')!r}, not a positive number")
    try:
        tasks = _tasks_3(root) if version == "3.0" else _tasks_2(root)
        read = _episodes_3 if version == "3.0" else _episodes_2
        episodes = sorted(read(root, info), key=lambda episode: episode.number)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{root / 'meta'}: damaged ({error!r}). Copy the dataset again") from error
    if not episodes:
        raise DataError(f"{root / 'meta'}: there are no episodes")
    robot = str(info.get("robot_type") or "")
    return LeRobotMeta(version, fps, robot, features, tasks, episodes)


def _video_keys(info: Mapping[str, Any]) -> list[str]:
    return [key for key, said in info["features"].items() if said.get("dtype") == "video"]


def _tasks_2(root: Path) -> dict[int, str]:
    path = root / "meta" / "tasks.jsonl"
    rows = read_json_lines(path) if path.is_file() else []
    return {int(row["task_index"]): str(row["task"]) for row in rows}


def _tasks_3(root: Path) -> dict[int, str]:
    """The words are pandas' index, which is a column called `task` or `__index_level_0__`."""
    path = root / "meta" / "tasks.parquet"
    if not path.is_file():
        return {}
    rows = _table(path)
    named = [name for name in ("task", "__index_level_0__") if name in rows.column_names]
    if not named or "task_index" not in rows.column_names:
        raise DataError(f"{path}: columns {rows.column_names}; task and task_index are needed")
    words, numbers = rows[named[0]].to_pylist(), rows["task_index"].to_pylist()
    return {int(number): str(word) for number, word in zip(numbers, words, strict=True)}


def _episodes_2(root: Path, info: Mapping[str, Any]) -> list[LeRobotEpisode]:
    chunk_size = int(info.get("chunks_size") or 1000)
    episodes = []
    for row in read_json_lines(root / "meta" / "episodes.jsonl"):
        number = int(row["episode_index"])
        place = {
            "episode_index": number,
            "episode_chunk": number // chunk_size,
            "total_episodes": int(info.get("total_episodes") or 0),
        }
        videos = {
            key: VideoPlace(_path(root, info["video_path"], {**place, "video_key": key}))
            for key in _video_keys(info)
        }
        data = _path(root, info["data_path"], place)
        tasks = [str(task) for task in row.get("tasks") or []]
        episodes.append(LeRobotEpisode(number, int(row["length"]), tasks, data, videos))
    return episodes


def _episodes_3(root: Path, info: Mapping[str, Any]) -> list[LeRobotEpisode]:
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    rows = [row for file in files for row in _rows(file)]
    return [_episode_3(root, info, row) for row in rows]


def _episode_3(root: Path, info: Mapping[str, Any], row: Mapping[str, Any]) -> LeRobotEpisode:
    videos = {}
    for key in _video_keys(info):
        place = {
            "video_key": key,
            "chunk_index": int(row[f"videos/{key}/chunk_index"]),
            "file_index": int(row[f"videos/{key}/file_index"]),
        }
        path = _path(root, info["video_path"], place)
        videos[key] = VideoPlace(path, float(row[f"videos/{key}/from_timestamp"]))
    place = {
        "chunk_index": int(row["data/chunk_index"]),
        "file_index": int(row["data/file_index"]),
    }
    tasks = [str(task) for task in row.get("tasks") or []]
    data = _path(root, info["data_path"], place)
    return LeRobotEpisode(int(row["episode_index"]), int(row["length"]), tasks, data, videos)


def _rows(path: Path) -> list[dict[str, Any]]:
    """Rows without the statistics, which are many columns and not believed."""
    import pyarrow.parquet as pq

    try:
        names = [name for name in pq.read_schema(path).names if not name.startswith("stats/")]
    except Exception as error:
        raise DataError(f"{path}: cannot be read ({error}). Copy the dataset again") from error
    rows: list[dict[str, Any]] = _table(path, names).to_pylist()
    return rows


def _table(path: Path, columns: list[str] | None = None) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Copy the dataset again") from error


def _path(root: Path, template: str, values: Mapping[str, Any]) -> Path:
    """A path of the dataset's own; templates come from a file, so only plain fields are filled."""
    for _, name, spec, conversion in string.Formatter().parse(template):
        plain = name is None or (name in _FIELDS and re.fullmatch(r"(0?\d{1,2}d)?", spec or ""))
        if not plain or conversion:
            raise DataError(f"{root}: path template {template!r} in meta/info.json is refused")
    path = root / template.format(**values)
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{root}: {template!r} in meta/info.json lies outside the dataset")
    return path
