"""Which episodes a LeRobot dataset has and in which files they lie, as columns.

2.x  one parquet and one video file an episode; meta/episodes.jsonl
3.0  many episodes in a file; meta/episodes/*/*.parquet says where each lies
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.json_files import read_json_lines
from dipole.data.sources.lerobot.folder import DatasetFolder, PathTemplate
from dipole.data.sources.lerobot.tables import numeric_column, read_table


@dataclass(frozen=True)
class FileColumn:
    """In which file each episode lies.

    names: Files within the dataset.
    numbers: Index into `names` for each episode, int64 [E].
    seconds: From which second of its file each episode runs, float64 [E].
    """

    names: tuple[str, ...]
    numbers: np.ndarray
    seconds: np.ndarray

    def name(self, row: int) -> str:
        return self.names[int(self.numbers[row])]

    def rows(self, row: int) -> np.ndarray:
        """Rows of the episodes in the same file, in the order in which they lie there."""
        rows = np.flatnonzero(self.numbers == self.numbers[row])
        return rows[np.argsort(self.seconds[rows], kind="stable")]

    def of(self, rows: np.ndarray) -> "FileColumn":
        return replace(self, numbers=self.numbers[rows], seconds=self.seconds[rows])


@dataclass(frozen=True)
class EpisodeTable:
    """The episodes, E of them, by increasing id.

    ids, lengths: int64 [E]; lengths in frames, each above 0.
    tasks: Words of each, in no order.
    data, videos: Where their rows and frames lie; videos by key.
    """

    ids: np.ndarray
    lengths: np.ndarray
    tasks: Sequence[Sequence[str]]
    data: FileColumn
    videos: Mapping[str, FileColumn]

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, id: int) -> int:
        """The row of the episode with this id, which exists."""
        return int(np.searchsorted(self.ids, id))


def read_episodes(
    folder: DatasetFolder, version: str, info: Mapping[str, Any], video_keys: Sequence[str]
) -> tuple[EpisodeTable, list[str]]:
    """All episodes, each once, and warnings; raises DataError where the files do not hold."""
    read = _episodes_3 if version == "3.0" else _episodes_2
    return _sorted_once(folder, read(folder, info, video_keys))


def _episodes_2(
    folder: DatasetFolder, info: Mapping[str, Any], video_keys: Sequence[str]
) -> EpisodeTable:
    rows = read_json_lines(folder.file("meta/episodes.jsonl"))
    ids = np.array([int(row["episode_index"]) for row in rows], np.int64)
    lengths = np.array([int(row["length"]) for row in rows], np.int64)
    tasks = [_words(row.get("tasks")) for row in rows]
    size = int(info.get("chunks_size") or 1000)
    total = int(info.get("total_episodes") or 0)

    def files(template: PathTemplate, **more: str) -> FileColumn:
        names = tuple(
            template.fill(
                {"episode_index": n, "episode_chunk": n // size, "total_episodes": total, **more}
            )
            for n in ids.tolist()
        )
        return FileColumn(names, np.arange(len(ids)), np.zeros(len(ids)))

    data = files(folder.template(info.get("data_path")))
    video = folder.template(info.get("video_path")) if video_keys else None
    videos = {key: files(video, video_key=key) for key in video_keys if video}
    return EpisodeTable(ids, lengths, tasks, data, videos)


def _episodes_3(
    folder: DatasetFolder, info: Mapping[str, Any], video_keys: Sequence[str]
) -> EpisodeTable:
    import pyarrow as pa

    names = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
    words = ("chunk_index", "file_index", "from_timestamp")
    names += [f"videos/{key}/{word}" for key in video_keys for word in words]
    files = sorted((folder.path / "meta/episodes").glob("*/*.parquet"))
    where = folder.path / "meta/episodes"
    if not files:
        raise DataError(f"{where}: no parquet files: there are no episodes")
    # Without the statistics, which are many columns and not believed.
    tables = [read_table(folder.file(str(f.relative_to(folder.path))), names) for f in files]
    table = pa.concat_tables(tables, promote_options="permissive")

    def lies_in(template: PathTemplate, prefix: str, seconds: str = "", **more: str) -> FileColumn:
        columns = [numeric_column(where, table, f"{prefix}/{word}") for word in words[:2]]
        places, numbers = np.unique(np.stack(columns, 1), axis=0, return_inverse=True)
        named = tuple(
            template.fill({"chunk_index": chunk, "file_index": file, **more})
            for chunk, file in places.tolist()
        )
        begin = numeric_column(where, table, seconds, float) if seconds else np.zeros(len(table))
        return FileColumn(named, numbers.reshape(-1), begin)

    ids = numeric_column(where, table, "episode_index")
    lengths = numeric_column(where, table, "length")
    listed = table["tasks"].to_pylist() if "tasks" in table.column_names else [()] * len(table)
    tasks = [_words(words) for words in listed]
    data = lies_in(folder.template(info.get("data_path")), "data")
    video = folder.template(info.get("video_path")) if video_keys else None
    videos = {
        key: lies_in(video, f"videos/{key}", f"videos/{key}/from_timestamp", video_key=key)
        for key in video_keys
        if video
    }
    return EpisodeTable(ids, lengths, tasks, data, videos)


def _words(tasks: Any) -> list[str]:
    """The tasks of an episode: a list, one text, or nothing."""
    return [tasks] if isinstance(tasks, str) else [str(task) for task in tasks or ()]


def _sorted_once(folder: DatasetFolder, table: EpisodeTable) -> tuple[EpisodeTable, list[str]]:
    """By increasing id, each episode once, and none without frames."""
    order = np.argsort(table.ids, kind="stable")
    ids = table.ids[order]
    if len(ids) and ids[0] < 0:
        raise DataError(f"{folder.path}: meta/ lists an episode {ids[0]}. Copy the dataset again")
    again = np.flatnonzero(ids[1:] == ids[:-1]) + 1
    warnings = []
    for n in again.tolist():
        first, second = int(order[n - 1]), int(order[n])
        one, two = _described(table, first), _described(table, second)
        if one != two:
            raise DataError(
                f"{folder.path}: episode {ids[n]} is listed twice in meta/, as {one} and as {two}. "
                "Remove the entry that is wrong"
            )
        warnings.append(f"episode {ids[n]} is listed twice in meta/, alike: it is taken once")
    rows = np.delete(order, again)
    empty = rows[table.lengths[rows] <= 0]
    warnings += [f"episode {table.ids[row]} has no frames: it is left out" for row in empty]
    return _of_rows(table, rows[table.lengths[rows] > 0]), warnings


def _described(table: EpisodeTable, row: int) -> str:
    places = [f"{table.data.name(row)}"]
    places += [f"{c.name(row)} from second {c.seconds[row]:g}" for c in table.videos.values()]
    tasks = f", tasks {sorted(table.tasks[row])}"
    return f"{table.lengths[row]} frames in {', '.join(places)}{tasks}"


def _of_rows(table: EpisodeTable, rows: np.ndarray) -> EpisodeTable:
    return EpisodeTable(
        table.ids[rows],
        table.lengths[rows],
        [table.tasks[row] for row in rows.tolist()],
        table.data.of(rows),
        {key: column.of(rows) for key, column in table.videos.items()},
    )
