"""Small LeRobot datasets, written here from the format's description and not by our exporter."""

import io
import json
import os

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


def write_v30_files(
    root,
    lengths,
    files=1,
    cameras=(),
    fps=10,
    video_fps=None,
    drift=0.0,
    extra_frames=0,
    tasks=None,
    file_of=None,
    row_groups=False,
    key_frames=4,
):
    """Many episodes over several files, with any number of cameras.

    drift: frames by which from_timestamp is late, more with each episode of a file. extra_frames:
    at the end of each video. tasks: for each episode a list of task numbers by frame. file_of:
    which file each episode lies in. row_groups: one for each episode.
    """
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    places = {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "fps": fps,
    }
    said = info("v3.0", lengths, None, **places)
    names = ["height", "width", "channel"]
    for camera in cameras:
        shape = [HEIGHT, WIDTH, 3]
        said["features"][camera] = {"dtype": "video", "shape": shape, "names": names}
    (root / "meta/info.json").write_text(json.dumps(said))
    words = pa.table({"task_index": [1, 0, 2], "task": ["pull it", "push it", "let go"]})
    pq.write_table(words, root / "meta/tasks.parquet")
    file_of = file_of or [e * files // len(lengths) for e in range(len(lengths))]
    columns = list(numbers(lengths))
    for e, episode in enumerate(columns):
        episode["timestamp"] = np.arange(lengths[e]) / fps
        if tasks is not None:
            episode["task_index"] = np.array(tasks[e])
    rate, rows = (video_fps or fps), []
    for file in sorted(set(file_of)):
        here = [e for e in range(len(lengths)) if file_of[e] == file]
        tables = [table(columns[e]) for e in here]
        path = root / f"data/chunk-000/file-{file:03d}.parquet"
        with pq.ParquetWriter(path, tables[0].schema) as writer:
            for part in tables if row_groups else [pa.concat_tables(tables)]:
                writer.write_table(part)
        first = 0
        for position, e in enumerate(here):
            told = sorted({"push it", "pull it", "let go"}) if tasks is not None else ["push it"]
            row = {"episode_index": e, "length": lengths[e], "tasks": told}
            row |= {"data/chunk_index": 0, "data/file_index": file}
            for camera in cameras:
                begin = (first + drift * position) / fps
                row |= {
                    f"videos/{camera}/{word}_index": n
                    for word, n in zip(("chunk", "file"), (0, file), strict=True)
                }
                row |= {f"videos/{camera}/from_timestamp": begin}
            rows.append(row)
            first += lengths[e]
        for number, camera in enumerate(cameras):
            count = round(first * rate / fps)
            shown = [
                smooth_picture(int(columns[here[0]]["index"][0]) + n * fps / rate + 10 * number)
                for n in range(count + extra_frames)
            ]
            if file_of != sorted(file_of):
                starts = [int(i) for e in here for i in columns[e]["index"]]
                shown = [smooth_picture(i + 10 * number) for i in starts]
            encode_video(
                root / f"videos/{camera}/chunk-000/file-{file:03d}.mp4",
                shown,
                rate,
                g=str(key_frames),
            )
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    return root


def levels(frames):
    """The brightness of pictures [N, height, width, 3], which is 4 a frame, modulo 256."""
    return frames[:, HEIGHT // 2, WIDTH // 2].mean(-1).round().astype(int)


def brightness(store):
    return np.round(store[CAMERA][:].mean((1, 2, 3)) / 4).astype(int).tolist()


def as_hub_cache(source, folder):
    """The same files as the hub's cache keeps them: links into blobs. Returns the snapshot."""
    repository = folder / "datasets--me--mine"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots/0123abc"
    for number, file in enumerate(sorted(p for p in source.rglob("*") if p.is_file())):
        blob = repository / f"blobs/{number:040x}"
        blob.write_bytes(file.read_bytes())
        link = snapshot / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def depth_picture(frame):
    """Depth uint16 [height, width, 1] in millimetres, different for each frame, up to 60 m."""
    rng = np.random.default_rng(frame)
    return rng.integers(0, 60000, (HEIGHT, WIDTH, 1), dtype=np.uint16)


def depth_file(frame):
    """The same as PNG of 16 bits."""
    return png(depth_picture(frame)[..., 0])


def add_pictures(root, key, files, shape, **info):
    """A column of picture files in every parquet file of data/. files: bytes by row number."""
    path = root / "meta/info.json"
    said = json.loads(path.read_text())
    names = ["height", "width", "channels"]
    feature = {"dtype": "image", "shape": list(shape), "names": names}
    said["features"][key] = {**feature, **({"info": info} if info else {})}
    path.write_text(json.dumps(said))
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    for file in sorted((root / "data").rglob("*.parquet")):
        rows = pq.read_table(file)
        made = [{"bytes": files(n), "path": None} for n in rows["index"].to_pylist()]
        pq.write_table(rows.append_column(key, pa.array(made, kind)), file)


def edit_info(root, change):
    """Change meta/info.json by a function of its table."""
    path = root / "meta/info.json"
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def replace_column(file, name, values):
    """Another column of this name in a parquet file. values: an arrow array."""
    rows = pq.read_table(file)
    position = rows.column_names.index(name)
    pq.write_table(rows.set_column(position, name, values), file)
