"""Small LeRobot datasets, written here from the format's description and not by our exporter."""

import io
import json

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HEIGHT, WIDTH = 16, 24
CAMERA = "observation.images.top"


def picture(frame):
    """A picture that says which frame it is, and survives no mix-up."""
    rng = np.random.default_rng(frame)
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def smooth_picture(frame):
    """The same for lossy video: a brightness of 4 per frame."""
    return np.full((HEIGHT, WIDTH, 3), 4 * frame % 256, np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def encode_video(path, frames, fps=10, codec="h264", muxer=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"g": "4", **options}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def decoded(path):
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def numbers(lengths):
    """Per episode a table of columns; state [frame, episode, frame of the episode]."""
    first = 0
    for episode, length in enumerate(lengths):
        frame = np.arange(first, first + length)
        yield {
            "observation.state": np.stack([frame, np.full(length, episode), frame - first], 1),
            "action": np.stack([frame, -frame], 1),
            "timestamp": (frame - first) / 10,
            "frame_index": frame - first,
            "episode_index": np.full(length, episode),
            "index": frame,
            "task_index": np.full(length, episode % 2),
        }
        first += length


def info(version, lengths, camera, **more):
    vector = {"dtype": "float32", "names": None}
    features = {
        "observation.state": {**vector, "shape": [3], "names": [["x", "y", "z"]]},
        "action": {**vector, "shape": [2]},
        **{
            name: {"dtype": "int64", "shape": [1], "names": None}
            for name in ("frame_index", "episode_index", "index", "task_index")
        },
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }
    if camera:
        names = ["height", "width", "channel"]
        features[CAMERA] = {"dtype": camera, "shape": [HEIGHT, WIDTH, 3], "names": names}
    return {
        "codebase_version": version,
        "robot_type": "arm",
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "chunks_size": 1000,
        "fps": 10,
        "features": features,
        **more,
    }


def table(columns, fixed=True, pictures=None):
    arrays = {}
    for name, values in columns.items():
        if values.ndim == 1:
            kind = pa.float32() if name == "timestamp" else pa.int64()
            arrays[name] = pa.array(values, kind)
        elif fixed:
            flat = pa.array(values.astype(np.float32).ravel())
            arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            arrays[name] = pa.array(values.tolist(), pa.list_(pa.float32()))
    if pictures is not None:
        rows = [{"bytes": raw, "path": f"frame_{n}.png"} for n, raw in enumerate(pictures)]
        arrays[CAMERA] = pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    return pa.table(arrays)


def write_json_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_v21(root, lengths, camera=None, fixed=True):
    """camera: None, "image" or "video"."""
    (root / "meta").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    places = {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/"
        "episode_{episode_index:06d}.mp4",
    }
    said = info("v2.1", lengths, camera, **places)
    (root / "meta/info.json").write_text(json.dumps(said))
    tasks = ["push it", "pull it"]
    write_json_lines(
        root / "meta/tasks.jsonl", [{"task_index": n, "task": task} for n, task in enumerate(tasks)]
    )
    write_json_lines(
        root / "meta/episodes.jsonl",
        [
            {"episode_index": e, "tasks": [tasks[e % 2]], "length": length}
            for e, length in enumerate(lengths)
        ],
    )
    for episode, columns in enumerate(numbers(lengths)):
        frames = columns["index"]
        pictures = [png(picture(n)) for n in frames] if camera == "image" else None
        path = root / f"data/chunk-000/episode_{episode:06d}.parquet"
        pq.write_table(table(columns, fixed, pictures), path)
        if camera == "video":
            path = root / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4"
            encode_video(path, [smooth_picture(n) for n in frames])
    return root


def write_v30(root, lengths, camera=None, index_name="task", codec="h264", fixed=True, **options):
    """All episodes in one data file and one video file, as the format asks for."""
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    places = {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    said = info("v3.0", lengths, camera, **places)
    (root / "meta/info.json").write_text(json.dumps(said))
    (root / "meta/stats.json").write_text("{}")
    tasks = pa.table({"task_index": [1, 0], index_name: ["pull it", "push it"]})
    pq.write_table(tasks, root / "meta/tasks.parquet")
    ends = np.cumsum(lengths)
    rows = {
        "episode_index": list(range(len(lengths))),
        "tasks": [[["push it", "pull it"][e % 2]] for e in range(len(lengths))],
        "length": list(lengths),
        "data/chunk_index": [0] * len(lengths),
        "data/file_index": [0] * len(lengths),
        "dataset_from_index": (ends - lengths).tolist(),
        "dataset_to_index": ends.tolist(),
        "stats/action/min": [[0.0, 0.0]] * len(lengths),  # wrong, as in old files
    }
    if camera == "video":
        key = f"videos/{CAMERA}"
        rows |= {f"{key}/chunk_index": [0] * len(lengths), f"{key}/file_index": [0] * len(lengths)}
        rows[f"{key}/from_timestamp"] = ((ends - lengths) / 10).tolist()
        rows[f"{key}/to_timestamp"] = (ends / 10).tolist()
        path = root / f"videos/{CAMERA}/chunk-000/file-000.mp4"
        encode_video(
            path, [smooth_picture(n) for n in range(int(ends[-1]))], codec=codec, **options
        )
    pq.write_table(pa.table(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    tables = []
    for columns in numbers(lengths):
        pictures = [png(picture(n)) for n in columns["index"]] if camera == "image" else None
        tables.append(table(columns, fixed, pictures))
    pq.write_table(pa.concat_tables(tables), root / "data/chunk-000/file-000.parquet")
    return root
