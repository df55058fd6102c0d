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
    monkeypatch.setattr("dipole.data.export.lerobot.FILE_BYTES", 8 * 16 * 24 * 3)
    source = open_source(corpus.write_v21(tmp_path / "source", [7, 5, 9], "image"))
    read, asked = source.read, []

    def stop(episode, *arguments):
        if episode == 2:
            raise KeyboardInterrupt
        return read(episode, *arguments)

    source.read = stop
    with pytest.raises(KeyboardInterrupt):
        export_lerobot(source, tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()
    source.read = lambda e, *rest: asked.append(e) or read(e, *rest)
    monkeypatch.setattr("dipole.data.export.lerobot.compare", lambda *_: None)
    export_lerobot(source, tmp_path / "theirs")
    assert set(asked) == {2}
    convert(open_source(tmp_path / "theirs"), tmp_path / "back.zarr")
    expected = np.stack([corpus.picture(n) for n in range(21)])
    assert np.array_equal(EpisodeStore.open(tmp_path / "back.zarr")[CAMERA][:], expected)


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
    assert main(["data", "convert", source, theirs, "to=lerobot", "keys=action"]) == 0
    assert main(["data", "convert", theirs, back]) == 0
    assert main(["data", "convert", source, "x", "to=lerobt"]) == 2
    assert EpisodeStore.open(back).keys() == ["action"]
