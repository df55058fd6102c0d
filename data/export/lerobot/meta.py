"""The folder meta/ of an exported dataset, from the rows of its episodes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dipole.data.export.lerobot.files import (
    DATA_PATH,
    FILES_PER_CHUNK,
    VIDEO_PATH,
    file_indices,
    file_name,
    whole_number,
    write_json,
)
from dipole.data.export.lerobot.statistics import STATISTICS, together
from dipole.data.export.lerobot.tables import tasks_table


def write_meta(
    root: Path,
    rows: Sequence[Mapping[str, Any]],
    words: Sequence[str],
    features: Mapping[str, Mapping[str, Any]],
    fps: float,
    robot: str | None,
) -> None:
    """Write meta/ of the dataset in `root`. rows: one an episode; words: of task 0, 1, ..."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    episodes = root / "meta/episodes" / file_name(0, "parquet")
    episodes.parent.mkdir(parents=True, exist_ok=True)
    where = file_indices("meta/episodes", 0)
    pq.write_table(pa.Table.from_pylist([{**row, **where} for row in rows]), episodes)
    pq.write_table(tasks_table(words), root / "meta/tasks.parquet")
    statistics = {
        name: together([{stat: row[f"stats/{name}/{stat}"] for stat in STATISTICS} for row in rows])
        for name in features
    }
    write_json(root / "meta/stats.json", statistics)
    has_video = any(entry["dtype"] == "video" for entry in features.values())
    info = {
        "codebase_version": "v3.0",
        "robot_type": robot,
        "total_episodes": len(rows),
        "total_frames": rows[-1]["dataset_to_index"],
        "total_tasks": len(words),
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": whole_number(fps),
        "splits": {"train": f"0:{len(rows)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if has_video else None,
        "features": features,
    }
    write_json(root / "meta/info.json", info)
