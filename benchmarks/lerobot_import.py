"""What bringing in a LeRobot v3.0 dataset costs: time, peak memory, files read.

    python benchmarks/lerobot_import.py --folder /tmp/theirs
    python benchmarks/lerobot_import.py --folder /tmp/theirs --episodes 200 --files 4 --frames 100

The dataset is made once, with two cameras of 96×128 in H.264: random walks as numbers, a moving
square as pictures. Then it is opened, and converted with video as it is and with decoded pictures,
each in a process of its own. `--listed 76000` measures listing that many episodes alone.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HEIGHT, WIDTH, FPS = 96, 128, 30
CAMERAS = ("observation.images.left", "observation.images.right")
JOINTS = 14
VECTOR = {"dtype": "float32", "shape": [JOINTS], "names": None}
COUNTER = {"dtype": "int64", "shape": [1], "names": None}
PICTURE = {
    "dtype": "video",
    "shape": [HEIGHT, WIDTH, 3],
    "names": ["height", "width", "channels"],
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the dataset is made")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--frames", type=int, default=100, help="of an episode")
    parser.add_argument("--listed", type=int, default=76_000)
    chosen = parser.parse_args(arguments)
    if not chosen.folder.exists():
        make_dataset(chosen.folder, chosen.episodes, chosen.files, chosen.frames)
    many = chosen.folder.with_name(chosen.folder.name + f"_{chosen.listed}")
    if not many.exists():
        make_list(chosen.folder, many, chosen.listed)
    for name, task, *rest in (
        ("open and list", list_episodes, chosen.folder),
        (f"list {chosen.listed:,} episodes", list_episodes, many),
        ("convert, video as it is", convert_dataset, chosen.folder, "keep"),
        ("convert, pictures as zstd", convert_dataset, chosen.folder, "zstd"),
    ):
        seconds, before, peak = measured(task, *rest)
        print(f"{name:28} {seconds:7.2f} s   {before:5.0f} → {peak:5.0f} MiB at most")


def measured(task: Callable[..., None], *arguments: Any) -> tuple[float, float, float]:
    """Seconds, and MiB of memory after the imports and at most, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(theirs, task, arguments))
    process.start()
    result: tuple[float, float, float] = ours.recv()
    process.join()
    return result


def _measure(pipe: Any, task: Callable[..., None], arguments: Sequence[Any]) -> None:
    import av  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import zarr  # noqa: F401

    before, start = _peak(), time.perf_counter()
    task(*arguments)
    pipe.send((time.perf_counter() - start, before, _peak()))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def list_episodes(folder: Path) -> None:
    from dipole.data.sources.registry import open_source

    source = open_source(folder)
    source.open(source.episodes()[0])


def convert_dataset(folder: Path, images: str) -> None:
    from dipole.data.convert import convert
    from dipole.data.sources.registry import open_source

    beside = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        convert(open_source(folder), beside / "ours.zarr", images=images)
    finally:
        shutil.rmtree(beside)


def make_dataset(folder: Path, n_episodes: int, n_files: int, n_frames: int) -> None:
    """Write the dataset, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    beside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(beside, ignore_errors=True)
    (beside / "meta/episodes/chunk-000").mkdir(parents=True)
    (beside / "data/chunk-000").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for file in range(n_files):
        here = range(file * n_episodes // n_files, (file + 1) * n_episodes // n_files)
        tables = [_episode_table(rng, e, n_frames) for e in here]
        name = f"chunk-000/file-{file:03d}"
        pq.write_table(pa.concat_tables(tables), beside / f"data/{name}.parquet")
        for camera in CAMERAS:
            _encode(beside / f"videos/{camera}/{name}.mp4", n_frames * len(here))
        rows += [_episode_row(e, n_frames, file, e - here[0]) for e in here]
    pq.write_table(pa.Table.from_pylist(rows), beside / "meta/episodes/chunk-000/file-000.parquet")
    tasks = pa.table({"task_index": [0], "task": ["fold the cloth"]})
    pq.write_table(tasks, beside / "meta/tasks.parquet")
    features: dict[str, Any] = {"observation.state": VECTOR, "action": VECTOR}
    features |= dict.fromkeys(("frame_index", "episode_index", "task_index"), COUNTER)
    features |= {"timestamp": {**COUNTER, "dtype": "float32"}}
    features |= dict.fromkeys(CAMERAS, PICTURE)
    info = {
        "codebase_version": "v3.0",
        "fps": FPS,
        "features": features,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (beside / "meta/info.json").write_text(json.dumps(info))
    beside.rename(folder)


def make_list(folder: Path, many: Path, count: int) -> None:
    """The same dataset, of which meta/ lists `count` episodes of one file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.copytree(folder, many)
    path = many / "meta/episodes/chunk-000/file-000.parquet"
    row = pq.read_table(path).to_pylist()[0]
    columns = {name: [value] * count for name, value in row.items()}
    columns["episode_index"] = list(range(count))
    pq.write_table(pa.table(columns), path)


def _episode_table(rng: np.random.Generator, episode: int, n: int) -> Any:
    import pyarrow as pa

    joints = rng.normal(size=(2, n * JOINTS)).astype(np.float32).cumsum(1)
    state, action = (pa.FixedSizeListArray.from_arrays(pa.array(j), JOINTS) for j in joints)
    return pa.table(
        {
            "observation.state": state,
            "action": action,
            "timestamp": (np.arange(n) / FPS).astype(np.float32),
            "frame_index": np.arange(n),
            "episode_index": np.full(n, episode),
            "task_index": np.zeros(n, np.int64),
        }
    )


def _episode_row(episode: int, n: int, file: int, position: int) -> dict[str, Any]:
    row: dict[str, Any] = {"episode_index": episode, "tasks": ["fold the cloth"], "length": n}
    row |= {"data/chunk_index": 0, "data/file_index": file}
    for camera in CAMERAS:
        row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": file}
        row[f"videos/{camera}/from_timestamp"] = position * n / FPS
    return row


def _encode(path: Path, n: int) -> None:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    background = np.random.default_rng(0).integers(0, 64, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=FPS, options={"g": "2", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for frame in range(n):
            picture = background.copy()
            picture[20:40, frame % 100 : frame % 100 + 20] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
