"""What the folder meta/ of a LeRobot dataset says, in versions 2.0, 2.1 and 3.0.

Nothing is believed that can be looked up: statistics are not read at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dipole.data.core.errors import DataError
from dipole.data.core.json_files import read_json, read_json_lines
from dipole.data.sources.lerobot.episodes import EpisodeTable, read_episodes
from dipole.data.sources.lerobot.features import frame_schemas
from dipole.data.sources.lerobot.folder import DatasetFolder
from dipole.data.sources.lerobot.tables import numeric_column, read_table
from dipole.data.sources.source import positive_number
from dipole.data.store.schema import FrameSchema


@dataclass(frozen=True)
class LeRobotMeta:
    """meta/ as it stands.

    version: "2.0", "2.1" or "3.0".
    fps: Frames a second.
    robot: The kind of robot, "" where it is not said.
    features: As in info.json.
    frames: Schema by key, of what is taken of them.
    left_out: Why the others are not taken.
    tasks: Words by number.
    episodes: By increasing id.
    warnings: What is odd.
    """

    version: str
    fps: float
    robot: str
    features: dict[str, dict[str, Any]]
    frames: dict[str, FrameSchema]
    left_out: dict[str, str]
    tasks: dict[int, str]
    episodes: EpisodeTable
    warnings: tuple[str, ...]


def read_meta(folder: DatasetFolder) -> LeRobotMeta:
    """Read meta/; raises DataError where it does not hold."""
    where = folder.file("meta/info.json")
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
    frames, left_out = frame_schemas(folder.path, features)
    videos = [key for key, schema in frames.items() if schema.storage == "video"]
    try:
        tasks = _tasks_3(folder) if version == "3.0" else _tasks_2(folder)
        episodes, warnings = read_episodes(folder, version, info, videos)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{folder.path / 'meta'}: damaged ({error!r}). Copy the dataset again"
        ) from error
    if not len(episodes):
        raise DataError(f"{folder.path / 'meta'}: there are no episodes")
    robot = str(info.get("robot_type") or "")
    return LeRobotMeta(
        version, fps, robot, features, frames, left_out, tasks, episodes, tuple(warnings)
    )


def _tasks_2(folder: DatasetFolder) -> dict[int, str]:
    path = folder.file("meta/tasks.jsonl")
    rows = read_json_lines(path) if path.is_file() else []
    return _by_number(path, ((int(row["task_index"]), str(row["task"])) for row in rows))


def _tasks_3(folder: DatasetFolder) -> dict[int, str]:
    """The words are pandas' index, which is a column called `task` or `__index_level_0__`."""
    path = folder.file("meta/tasks.parquet")
    if not path.is_file():
        return {}
    table = read_table(path)
    named = [name for name in ("task", "__index_level_0__") if name in table.column_names]
    if not named:
        raise DataError(f"{path}: columns {table.column_names}; task and task_index are needed")
    numbers = numeric_column(path, table, "task_index").tolist()
    words = [str(word) for word in table[named[0]].to_pylist()]
    return _by_number(path, zip(numbers, words, strict=True))


def _by_number(path: Any, pairs: Iterable[tuple[int, str]]) -> dict[int, str]:
    tasks: dict[int, str] = {}
    for number, words in pairs:
        if tasks.setdefault(number, words) != words:
            raise DataError(
                f"{path}: task {number} is both {tasks[number]!r} and {words!r}. "
                "Remove the line that is wrong"
            )
    return tasks
