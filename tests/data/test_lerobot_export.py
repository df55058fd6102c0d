"""What goes out as LeRobot v3.0 comes back the same, and is as its readers expect it."""

import importlib.util
import json
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from dipole.apps.main import main
from dipole.data import DataError, EpisodeStore, EpisodeWriter
from dipole.data.convert import convert
from dipole.data.export.lerobot import export_lerobot
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.registry import open_source
from dipole.data.sources.source import ArrayEpisode, EpisodeRef, SourceInfo
from dipole.data.store.schema import FrameSchema

_spec = importlib.util.spec_from_file_location(
    "lerobot_corpus", Path(__file__).with_name("lerobot_corpus.py")
)
corpus = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(corpus)
CAMERA = corpus.CAMERA


def there_and_back(path, folder, **selection):
    export_lerobot(selected(open_source(path), **selection), folder / "theirs")
    convert(open_source(folder / "theirs"), folder / "back.zarr")
    return EpisodeStore.open(folder / "back.zarr")


@st.composite
def datasets(draw):
    """Episodes of random numbers and pictures, with tasks."""
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 3)]))
    dtype = draw(st.sampled_from(["float32", "int64", "uint8", "bool"]))
    words = st.sampled_from(["", "push it", "zieh es – schnell"])
    tasks = [draw(words) for _ in lengths]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    episodes = [
        {
            "action": rng.normal(size=(n, 2)).astype(np.float32),
            "state": (rng.normal(size=(n, *shape)) * 50).astype(dtype),
            "camera": rng.integers(0, 256, (n, 5, 7, 3), dtype=np.uint8),
        }
        for n in lengths
    ]
    return episodes, tasks


@settings(max_examples=8, deadline=None)
@given(datasets())
def test_whatever_goes_out_comes_back(dataset):
    episodes, tasks = dataset
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.zarr"
        with EpisodeWriter(path, fps=10, environment={"id": "arm", "version": "1"}) as writer:
            for episode, task in zip(episodes, tasks, strict=True):
                writer.add_episode(episode, task)
        before, back = EpisodeStore.open(path), there_and_back(path, Path(folder))
        assert back.tasks == tasks
        assert back.fps == 10
        assert back.episode_ends.tolist() == before.episode_ends.tolist()
        names = {"action": "action", "state": "observation.state"}
        names["camera"] = "observation.images.camera"
        for key, name in names.items():
            was, is_ = before[key][:], back[name][:]
            assert np.array_equal(is_, was.reshape(is_.shape))
            assert is_.dtype == was.dtype


def test_video_goes_out_and_comes_back_as_the_same_frames(tmp_path):
    source = corpus.write_v30(tmp_path / "source", [7, 5, 9], "video")
    expected = corpus.decoded(next((source / "videos").rglob("*.mp4")))
    back = there_and_back(source, tmp_path, episodes=(1, 2))
    assert np.array_equal(back[CAMERA][:], expected[7:])
    assert back.schema(CAMERA)["storage"] == "video"
    info = json.loads((tmp_path / "theirs/meta/info.json").read_text())
    assert info["features"][CAMERA]["info"]["video.codec"] == "h264"


@pytest.fixture
def exported(tmp_path):
    """Two episodes of 7 and 9 frames, out of an episode store."""
    source = corpus.write_v21(tmp_path / "source", [7, 5, 9], "image")
    convert(selected(open_source(source), episodes=(2, 0, 1)), tmp_path / "ours.zarr")
    export_lerobot(open_source(tmp_path / "ours.zarr"), tmp_path / "theirs")
    return tmp_path / "theirs"


def test_row_i_of_the_tasks_is_task_i_and_pandas_finds_its_index(exported):
    tasks = pq.read_table(exported / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["push it", "pull it"]}
    pandas = json.loads(tasks.schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["task"]
    assert [column["name"] for column in pandas["columns"]] == ["task_index", "task"]


def test_frames_are_numbered_as_readers_expect(exported):
    data = pq.read_table(exported / "data/chunk-000/file-000.parquet")
    assert data["index"].to_pylist() == list(range(21))
    assert data["episode_index"].to_pylist() == [0] * 7 + [1] * 5 + [2] * 9
    assert data["frame_index"].to_pylist()[5:9] == [5, 6, 0, 1]
    assert data["task_index"].to_pylist() == [0] * 7 + [1] * 5 + [0] * 9
    assert data["timestamp"].to_numpy()[8] == np.float32(0.1)
    assert str(data.schema.field("action").type) == "fixed_size_list<element: float>[2]"
    declared = json.loads(data.schema.metadata[b"huggingface"])["info"]["features"]
    assert declared[CAMERA] == {"_type": "Image"}
    rows = pq.read_table(exported / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["episode_index"] for row in rows] == [0, 1, 2]
    assert [(r["dataset_from_index"], r["dataset_to_index"]) for r in rows] == [
        (0, 7),
        (7, 12),
        (12, 21),
    ]


def test_statistics_are_computed_and_not_trusted(exported):
    statistics = json.loads((exported / "meta/stats.json").read_text())
    frame = np.arange(21.0)
    assert statistics["action"]["min"] == [0, -20]
    assert statistics["action"]["max"] == [20, 0]
    assert statistics["action"]["mean"] == pytest.approx([10, -10])
    assert statistics["action"]["std"] == pytest.approx([frame.std()] * 2)
    assert statistics["action"]["count"] == [21]
    pictures = np.stack([corpus.picture(n) for n in range(21)]) / 255
    mean = np.array(statistics[CAMERA]["mean"])
    assert mean.shape == (3, 1, 1)
    assert mean.ravel() == pytest.approx(pictures.mean((0, 1, 2)))
    assert np.ravel(statistics[CAMERA]["std"]) == pytest.approx(pictures.std((0, 1, 2)))


def test_an_interrupted_export_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("dipole.data.export.lerobot.export.FILE_BYTES", 150)
    tasks = [[1, 1, 0, 0, 0, 1, 1], [2] * 5, [0] * 3 + [1] * 6]
    source = open_source(corpus.write_v30_files(tmp_path / "source", [7, 5, 9], tasks=tasks))
    opens, asked = source.open, []

    def stop(ref):
        if ref.id == 2:
            raise KeyboardInterrupt
        return opens(ref)

    source.open = stop
    with pytest.raises(KeyboardInterrupt):
        export_lerobot(source, tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()
    source.open = lambda ref: asked.append(ref.id) or opens(ref)
    monkeypatch.setattr("dipole.data.export.lerobot.export.compare", lambda *_: None)
    export_lerobot(source, tmp_path / "theirs")
    assert asked == [0, 1, 2, 2]  # the first says what is video, the second file had not ended
    assert spans(tmp_path / "theirs") == spans(tmp_path / "source")


def spans(path):
    source = open_source(path)
    return [source.open(ref).tasks for ref in source.episodes()]


def test_tasks_that_change_within_an_episode_are_kept_by_frame(tmp_path):
    tasks = [[1, 1, 0, 0, 0, 1, 1], [0] * 5, [2] * 3 + [1] * 6]
    source = corpus.write_v30_files(tmp_path / "source", [7, 5, 9], tasks=tasks)
    export_lerobot(open_source(source), tmp_path / "theirs")
    data = pq.read_table(tmp_path / "theirs/data/chunk-000/file-000.parquet")
    assert data["task_index"].to_pylist() == [0, 0, 1, 1, 1, 0, 0] + [1] * 5 + [2] * 3 + [0] * 6
    assert "observation.task_index" not in data.column_names
    words = pq.read_table(tmp_path / "theirs/meta/tasks.parquet").to_pydict()
    assert words == {"task_index": [0, 1, 2], "task": ["pull it", "push it", "let go"]}
    rows = pq.read_table(tmp_path / "theirs/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["tasks"] for row in rows] == [
        ["pull it", "push it"],
        ["push it"],
        ["let go", "pull it"],
    ]
    assert spans(tmp_path / "theirs") == [
        ((0, "pull it"), (2, "push it"), (5, "pull it")),
        ((0, "push it"),),
        ((0, "let go"), (3, "pull it")),
    ]


def test_tasks_and_depth_go_through_a_store_and_come_back(tmp_path):
    tasks = [[1, 1, 0, 0, 0, 1, 1], [0] * 5]
    source = corpus.write_v30_files(tmp_path / "source", [7, 5], tasks=tasks)
    key, shape = "observation.images.depth", (16, 24, 1)
    corpus.add_pictures(source, key, corpus.depth_file, shape, is_depth_map=True)
    convert(open_source(source), tmp_path / "ours.zarr")
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert store.schema(key)["kind"] == "depth"
    assert store.schema(key)["units"] == "mm"
    assert store.task_spans(0) == ((0, "pull it"), (2, "push it"), (5, "pull it"))
    export_lerobot(open_source(tmp_path / "ours.zarr"), tmp_path / "theirs")
    assert spans(tmp_path / "theirs") == spans(tmp_path / "source")
    back = open_source(tmp_path / "theirs")
    frames = np.concatenate([back.open(r).read(key, 0, r.n_frames) for r in back.episodes()])
    assert np.array_equal(frames, np.stack([corpus.depth_picture(n) for n in range(12)]))
    assert np.array_equal(store[key][:], frames)


def test_several_cameras_in_one_file_go_out_and_come_back(tmp_path):
    lengths, cameras = [3, 5, 4, 6, 2], ["observation.images.left", "observation.images.right"]
    path = corpus.write_v30_files(
        tmp_path / "source", lengths, files=2, cameras=cameras, key_frames=6
    )
    source = open_source(path)
    export_lerobot(source, tmp_path / "theirs")
    back = open_source(tmp_path / "theirs")
    assert back.info.warnings == ()
    for camera in cameras:
        for ref in source.episodes():
            was, is_ = source.open(ref), back.open(ref)
            assert is_.clip(camera).n_frames == lengths[ref.id]
            assert np.array_equal(
                is_.read(camera, 0, ref.n_frames), was.read(camera, 0, ref.n_frames)
            )


class Arrays:
    """A source of one episode of three frames, whose keys are given."""

    def __init__(self, frames):
        frames = {"action": FrameSchema((2,), np.dtype(np.float32), "action"), **frames}
        self.info = SourceInfo(Path("ours"), "test", frames, fps=10)
        rng = np.random.default_rng(0)
        self.arrays = {
            key: (rng.normal(size=(3, *schema.shape)) * 50).astype(schema.dtype)
            for key, schema in frames.items()
        }

    def episodes(self):
        return [EpisodeRef(0)]  # how many frames it has is known when it is opened

    def open(self, ref):
        return ArrayEpisode(ref, self.arrays)

    def close(self):
        pass


def vector(size, **more):
    return FrameSchema((size,), np.dtype(np.float32), "state", **more)


CAMERA_SCHEMA = FrameSchema((4, 6, 3), np.dtype(np.uint8), "image")


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (
            {"state": vector(3), "top": CAMERA_SCHEMA},
            {"observation.state", "observation.images.top"},
        ),
        ({"state": vector(3)}, {"observation.state", "observation.environment_state"}),
        (
            {"state": vector(3), "object": vector(5)},
            {"observation.state", "observation.environment_state"},
        ),
        ({"joints": vector(3)}, {"observation.joints"}),
        (
            {"next.reward": vector(1), "object": CAMERA_SCHEMA},
            {"next.reward", "observation.images.object"},
        ),
    ],
)
def test_names_of_keys_in_lerobot(tmp_path, frames, expected):
    export_lerobot(Arrays(frames), tmp_path / "theirs")
    info = json.loads((tmp_path / "theirs/meta/info.json").read_text())
    counters = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
    assert set(info["features"]) - counters - {"action"} == expected


def test_a_state_alone_is_written_as_the_environments_too_and_read_once(tmp_path):
    ours = Arrays({"state": vector(3)})
    export_lerobot(ours, tmp_path / "theirs")
    data = pq.read_table(tmp_path / "theirs/data/chunk-000/file-000.parquet")
    state = ours.arrays["state"].tolist()
    assert data["observation.environment_state"].to_pylist() == state
    assert data["observation.state"].to_pylist() == state
    statistics = json.loads((tmp_path / "theirs/meta/stats.json").read_text())
    assert statistics["observation.environment_state"] == statistics["observation.state"]
    back = open_source(tmp_path / "theirs").info
    assert sorted(back.frames) == ["action", "observation.state"]
    assert back.left_out == {"observation.environment_state": "it is a copy of observation.state"}


def test_a_rate_that_is_no_whole_number_comes_back(tmp_path):
    source = corpus.write_v30_files(tmp_path / "source", [7, 5], cameras=["cam"], fps=10)
    corpus.edit_info(source, lambda info: info.update(fps=9.97))
    export_lerobot(open_source(source), tmp_path / "theirs")
    back = open_source(tmp_path / "theirs")
    assert (back.info.fps, back.info.warnings) == (9.97, ())
    assert back.open(back.episodes()[1]).clip("observation.images.cam").n_frames == 5


def test_names_and_units_come_back(tmp_path):
    units = ("rad", "rad", "m")
    ours = Arrays(
        {"state": vector(3, names=("a", "b", "c"), units=units), "force": vector(2, units="N")}
    )
    export_lerobot(ours, tmp_path / "theirs")
    frames = open_source(tmp_path / "theirs").info.frames
    assert frames["observation.state"].names == ("a", "b", "c")
    assert frames["observation.state"].units == units
    assert frames["observation.force"].units == "N"


@pytest.mark.parametrize("key", ["../../pwned", "a/b", "/pwned", "observation...\\b", ""])
def test_a_key_that_names_another_folder_is_refused_and_nothing_is_written(tmp_path, key):
    with pytest.raises(DataError, match="cannot be exported"):
        export_lerobot(Arrays({key: CAMERA_SCHEMA}), tmp_path / "theirs")
    assert list(tmp_path.iterdir()) == []


def test_two_keys_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"'object' and 'env_state' would both be 'observation.env"):
        export_lerobot(Arrays({"object": vector(3), "env_state": vector(2)}), tmp_path / "theirs")


def test_what_differs_when_it_is_read_back_is_not_put_there(tmp_path, monkeypatch):
    class Changed(Arrays):
        def open(self, ref):
            self.arrays = {key: values + 1 for key, values in self.arrays.items()}
            return super().open(ref)

    with pytest.raises(DataError, match="what was written reads differently"):
        export_lerobot(Changed({"state": vector(3)}), tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_nothing_is_overwritten_and_frame_rates_are_needed(tmp_path):
    with EpisodeWriter(tmp_path / "ours.zarr") as writer:
        writer.add_episode({"action": np.zeros((3, 2)), "state": np.zeros((3, 2))})
    with pytest.raises(DataError, match="frames per second are not recorded"):
        export_lerobot(open_source(tmp_path / "ours.zarr"), tmp_path / "theirs")
    source = open_source(corpus.write_v21(tmp_path / "source", [7, 5]))
    with pytest.raises(DataError, match="exists already"):
        export_lerobot(source, tmp_path / "ours.zarr")


def test_the_command_exports(tmp_path):
    source = str(corpus.write_v21(tmp_path / "source", [7, 5]))
    theirs, back = str(tmp_path / "theirs"), str(tmp_path / "back.zarr")
    assert main(["data", "convert", source, theirs, "--to=lerobot", "--keys=action"]) == 0
    assert main(["data", "convert", theirs, back]) == 0
    assert main(["data", "convert", source, "x", "--to=lerobt"]) == 2
    assert EpisodeStore.open(back).keys() == ["action"]
