"""Other people's datasets become episode stores: the same numbers, the same pictures, the words."""

import importlib.util
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dipole.apps.main import main
from dipole.data import ConfigError, DataError, EpisodeStore, EpisodeWriter
from dipole.data.convert import convert
from dipole.data.inspection.validate import validate
from dipole.data.sources.combine.joined import joined
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.registry import open_source
from dipole.data.store.video_array import VideoArray

_spec = importlib.util.spec_from_file_location(
    "lerobot_corpus", Path(__file__).with_name("lerobot_corpus.py")
)
corpus = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(corpus)

no_jxl = pytest.mark.skipif(find_spec("pillow_jxl") is None, reason="pip install dipole[formats]")
JXL = pytest.param("jxl", marks=no_jxl)
LENGTHS = [7, 5, 9]
CAMERA = corpus.CAMERA
WRITERS = {"v2.1": corpus.write_v21, "v3.0": corpus.write_v30}


class Watched(WrappedSource):
    """A source that calls `before(id, key, start)` before each read."""

    def __init__(self, source, before):
        super().__init__(source, source.info)
        self.before = before

    def open(self, ref):
        return WatchedEpisode(self._source.open(ref), self.before)


class WatchedEpisode(WrappedEpisode):
    def __init__(self, episode, before):
        super().__init__(episode)
        self.before = before

    def read(self, key, start, stop):
        self.before(self.ref.id, key, start)
        return self._episode.read(key, start, stop)


def converted(source, path, images="keep", **selection):
    convert(selected(open_source(source), **selection), path, images)
    assert validate(path).ok
    return EpisodeStore.open(path)


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir())


def check_numbers(store, lengths=LENGTHS):
    frame = np.arange(sum(lengths))
    assert store.episode_ends.tolist() == np.cumsum(lengths).tolist()
    assert np.array_equal(store["observation.state"][:, 0], frame)
    assert np.array_equal(store["action"][:], np.stack([frame, -frame], 1))
    assert store["action"].dtype == np.float32
    assert store.fps == 10
    assert store.environment == {"id": "arm", "version": ""}


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize("images", ["keep", "zstd", JXL])
def test_stills_are_stored_without_loss(tmp_path, version, images):
    source = WRITERS[version](tmp_path / "theirs", LENGTHS, "image")
    store = converted(source, tmp_path / "ours.zarr", images=images)
    expected = np.stack([corpus.picture(n) for n in range(sum(LENGTHS))])
    assert np.array_equal(store[CAMERA][:], expected)
    assert np.array_equal(store[CAMERA].take(np.array([[9, 3], [3, 20]]))[1, 1], expected[20])


def test_jpeg_is_near_and_small_and_uint8(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "image")
    store = converted(source, tmp_path / "ours.zarr", images="jpeg")
    expected = np.stack([corpus.picture(n) for n in range(sum(LENGTHS))]).astype(int)
    assert store[CAMERA].dtype == np.uint8
    assert np.abs(store[CAMERA][:] - expected).mean() < 6  # noise is the hardest picture there is


@pytest.mark.parametrize("images", ["keep", "zstd"])
@pytest.mark.parametrize("name", ["ours.zarr", "ours.zarr.zip"])
@pytest.mark.parametrize("version", WRITERS)
def test_video_gives_the_frames_that_its_own_decoder_gives(tmp_path, version, images, name):
    source = WRITERS[version](tmp_path / "theirs", LENGTHS, "video")
    files = sorted((source / "videos").rglob("*.mp4"))
    expected = np.concatenate([corpus.decoded(file) for file in files])
    store = converted(source, tmp_path / name, images=images)
    assert np.array_equal(store[CAMERA][:], expected)
    for frame in np.random.default_rng(0).integers(0, sum(LENGTHS), 20):  # in any order
        assert np.array_equal(store[CAMERA][int(frame)], expected[frame])
    stored_as = "video" if images == "keep" else None
    assert store.schema(CAMERA).get("storage") == stored_as


def test_keys_and_episodes_are_chosen(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "image")
    store = converted(source, tmp_path / "a.zarr", keys=("action",), episodes=(2, 0))
    assert store.keys() == ["action"]
    assert store.episode_ends.tolist() == [7, 16]
    assert store["action"][7, 0] == 12
    with pytest.raises(ConfigError, match="no key 'actoin', did you mean 'action'"):
        converted(source, tmp_path / "b.zarr", keys=("actoin",))
    with pytest.raises(ConfigError, match="no episode 7; there are 3, 0 to 2"):
        converted(source, tmp_path / "b.zarr", episodes=(7,))


def test_a_missing_video_is_named_with_the_episodes_that_can_be_used(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", [4, 4, 4, 4, 4], "video")
    for episode in (0, 3):
        (source / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4").unlink()
    with pytest.raises(DataError) as caught:
        converted(source, tmp_path / "ours.zarr")
    assert f"videos of '{CAMERA}' are missing for 2 of 5 episodes (0,3)" in str(caught.value)
    assert "--episodes 1-2,4" in str(caught.value)
    assert "--keys observation.state,action" in str(caught.value)
    assert left_behind(tmp_path) == ["theirs"]
    store = converted(source, tmp_path / "ours.zarr", episodes=(1, 2, 4))
    assert store[CAMERA].shape == (12, 16, 24, 3)


def test_hdf5_of_robomimic_with_and_without_observations(tmp_path):
    with h5py.File(tmp_path / "with.hdf5", "w") as file:
        group = file.create_group("data")
        group.attrs["env_args"] = (
            '{"env_name": "Lift", "env_version": "1.4", "env_kwargs": {"control_freq": 20}}'
        )
        for demo in (10, 2):
            length = 3 + demo
            made = group.create_group(f"demo_{demo}")
            made["actions"] = np.full((length, 2), demo, np.float64)
            made["states"] = np.zeros((length, 5))
            made["obs/eef"] = np.full((length, 3), demo, np.float32)
            made["obs/agentview_image"] = np.full((length, 4, 6, 3), demo, np.uint8)
            made["next_obs/eef"] = np.zeros((length, 3))
    store = converted(tmp_path / "with.hdf5", tmp_path / "with.zarr")
    assert store.keys() == ["action", "agentview_image", "eef", "states"]
    assert store.episode_ends.tolist() == [5, 18]  # demo_2 before demo_10
    assert store["action"][[0, 17], 0].tolist() == [2, 10]
    assert (store.fps, store.environment) == (20, {"id": "Lift", "version": "1.4"})
    assert store.schema("agentview_image")["kind"] == "image"
    with h5py.File(tmp_path / "without.hdf5", "w") as file:
        file["data/demo_1/actions"] = np.ones((6, 7))
        file["data/demo_1/states"] = np.ones((6, 9))
        file["data/demo_1/elsewhere"] = h5py.ExternalLink("/etc/passwd", "x")
    assert converted(tmp_path / "without.hdf5", tmp_path / "b.zarr").keys() == ["action", "states"]


def test_zarr_of_diffusion_policy_is_stored_anew(write_v2, tmp_path):
    source = write_v2([10, 12])
    store, before = converted(source, tmp_path / "ours.zarr"), EpisodeStore.open(source)
    for key in before.keys():  # noqa: SIM118
        assert np.array_equal(store[key][:], before[key][:])
    assert store["camera"].chunk_length == 1365  # 64 KiB


def test_what_is_no_dataset_is_refused_with_what_is_known(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="not a dataset that is known"):
        open_source(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="there is no dataset here"):
        open_source(tmp_path / "nothing")


def damage_picture(source):
    path = source / "data/chunk-000/episode_000001.parquet"
    rows = pq.read_table(path)
    pictures = rows[CAMERA].to_pylist()
    pictures[3]["bytes"] = pictures[3]["bytes"][:40]
    column = pa.array(pictures, rows[CAMERA].type)
    pq.write_table(rows.set_column(rows.column_names.index(CAMERA), CAMERA, column), path)


def test_a_damaged_picture_is_an_error_that_names_episode_and_frame(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "image")
    damage_picture(source)
    with pytest.raises(DataError, match=f"'{CAMERA}', episode 1, frame 3: the image cannot be"):
        converted(source, tmp_path / "ours.zarr")
    assert not (tmp_path / "ours.zarr").exists()


def test_a_video_damaged_after_the_conversion_is_named_by_episode_and_frame(tmp_path):
    store = converted(
        corpus.write_v21(tmp_path / "theirs", LENGTHS, "video"), tmp_path / "ours.zarr"
    )
    (tmp_path / f"ours.zarr/videos/{CAMERA}/000001.mp4").unlink()
    with pytest.raises(DataError, match=r"episode 1, frame 2 \(frame 9 of the dataset\)"):
        store[CAMERA].take(np.array([9]))
    assert (
        "000001.mp4, the video is missing" in validate(tmp_path / "ours.zarr").problems[0].message
    )


def test_an_interrupted_conversion_goes_on_and_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("dipole.data.store.zarr.encoding.SHARD_BYTES", 4 * 16 * 24 * 3)
    monkeypatch.setattr("dipole.data.store.zarr.encoding.CHUNK_BYTES", 16 * 24 * 3)
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "image")
    whole = converted(source, tmp_path / "whole.zarr")
    asked = []

    def stop_at_the_third_episode(episode, key, start):
        if episode == 2 and key == CAMERA:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(Watched(open_source(source), stop_at_the_third_episode), tmp_path / "ours.zarr")
    assert left_behind(tmp_path) == [".ours.zarr.partial", "theirs", "whole.zarr"]
    watched = Watched(open_source(source), lambda *what: asked.append(what))
    convert(watched, tmp_path / "ours.zarr")
    assert left_behind(tmp_path) == ["ours.zarr", "theirs", "whole.zarr"]
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert np.array_equal(store[CAMERA][:], whole[CAMERA][:])
    assert store.fingerprint() == whole.fingerprint()
    assert {episode for episode, *_ in asked} == {2}  # the others were committed


KILLED = """
import os, signal, sys
from pathlib import Path
from dipole.data.convert import convert
from dipole.data.sources.registry import open_source

source = open_source(sys.argv[1])
Episode = type(source.open(source.episodes()[0]))
read = Episode.read

def read_and_be_killed(self, key, start, stop):
    if (self.ref.id, key) == (1, sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, key, start, stop)

Episode.read = read_and_be_killed
convert(source, Path(sys.argv[2]))
"""


def test_a_killed_conversion_leaves_nothing_at_its_place_and_goes_on(tmp_path):
    source, path = corpus.write_v21(tmp_path / "theirs", LENGTHS, "image"), tmp_path / "ours.zarr"
    command = [sys.executable, "-c", KILLED, str(source), str(path), CAMERA]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert left_behind(tmp_path) == [".ours.zarr.partial", "theirs"]
    store = converted(source, path)
    check_numbers(store)
    expected = np.stack([corpus.picture(n) for n in range(sum(LENGTHS))])
    assert np.array_equal(store[CAMERA][:], expected)
    assert left_behind(tmp_path) == ["ours.zarr", "theirs"]


def test_other_words_begin_an_unfinished_conversion_anew(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "image")
    damage_picture(source)
    with pytest.raises(DataError):
        converted(source, tmp_path / "ours.zarr")
    store = converted(source, tmp_path / "ours.zarr", episodes=(0, 2))
    assert store.episode_ends.tolist() == [7, 16]


def test_nothing_is_overwritten(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS)
    (tmp_path / "ours.zarr").write_text("precious")
    with pytest.raises(DataError, match="exists already"):
        converted(source, tmp_path / "ours.zarr")
    assert (tmp_path / "ours.zarr").read_text() == "precious"


def test_what_is_written_is_read_back_before_it_is_put_there(tmp_path, monkeypatch):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS)
    finish = "dipole.data.store.writer.StoreWriter.finish"
    from dipole.data.store.writer import StoreWriter

    written = StoreWriter.finish

    def finish_and_lose_a_file(self, *arguments):
        written(self, *arguments)
        shutil.rmtree(self.folder / "data/action/c")

    monkeypatch.setattr(finish, finish_and_lose_a_file)
    with pytest.raises(DataError, match="not sound, so it was not put there"):
        converted(source, tmp_path / "ours.zarr")
    assert not (tmp_path / "ours.zarr").exists()
    monkeypatch.undo()
    convert(open_source(source), tmp_path / "ours.zarr")  # and the next attempt begins anew
    assert EpisodeStore.open(tmp_path / "ours.zarr").n_episodes == len(LENGTHS)


def test_the_command_converts(tmp_path, capsys):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "image")
    words = ["--episodes=0,1-2", f"--keys=action,{CAMERA}", "--images=jpeg"]
    target = str(tmp_path / "ours.zarr.zip")
    assert main(["data", "convert", str(source), target, *words]) == 0
    assert "LeRobot v2.1 at" in capsys.readouterr().out
    assert main(["data", "info", target]) == 0
    assert "'push it', 'pull it'" in capsys.readouterr().out
    assert main(["data", "convert", str(source), target]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["data", "convert", str(source), "x", "episode=1"]) == 2
    assert "written with dashes: --episodes 1" in capsys.readouterr().err


def test_label_maps_and_tactile_arrays_stay_as_they_are_beside_jpeg(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"labels": (16, 16, 1), "touch": (16, 16, 2), "camera": (16, 16, 3)}
    features = {"labels": {"kind": "state"}}
    with EpisodeWriter(tmp_path / "a.zarr", features=features) as writer:
        arrays = {k: rng.integers(0, 5, (4, *shape), np.uint8) for k, shape in shapes.items()}
        writer.add_episode({"action": np.zeros((4, 2)), **arrays})
    store = converted(tmp_path / "a.zarr", tmp_path / "b.zarr", images="jpeg")
    assert np.array_equal(store["labels"][:], arrays["labels"])
    assert np.array_equal(store["touch"][:], arrays["touch"])
    assert not np.array_equal(store["camera"][:], arrays["camera"])  # it is JPEG


@pytest.fixture
def video_zip(tmp_path):
    """A dataset with video, in a zip; and the same in a folder."""
    source = corpus.write_v30(tmp_path / "theirs", LENGTHS, "video")
    for name in ("ours.zarr", "ours.zarr.zip"):
        convert(open_source(source), tmp_path / name)
    return tmp_path


def test_video_in_a_zip_is_kept_without_decoding(video_zip, monkeypatch):
    def refuse(*_):
        raise AssertionError("a video is decoded")

    with monkeypatch.context() as patched:
        patched.setattr(VideoArray, "read", refuse)
        patched.setattr(VideoArray, "take", refuse)
        convert(open_source(video_zip / "ours.zarr.zip"), video_zip / "again.zarr")
    before, after = (EpisodeStore.open(video_zip / n) for n in ("ours.zarr", "again.zarr"))
    assert after.schema(CAMERA)["storage"] == "video"
    assert np.array_equal(after[CAMERA][:], before[CAMERA][:])


def test_video_of_a_folder_and_of_a_zip_are_joined(video_zip):
    both = [open_source(video_zip / name) for name in ("ours.zarr", "ours.zarr.zip")]
    convert(joined(both), video_zip / "both.zarr")
    before, after = (EpisodeStore.open(video_zip / n) for n in ("ours.zarr", "both.zarr"))
    once = before[CAMERA][:]
    assert np.array_equal(after[CAMERA][:], np.concatenate([once, once]))
    assert after.episode_ends.tolist() == [7, 12, 21, 28, 33, 42]


def test_what_is_taken_out_of_a_zip_is_removed_at_the_end(video_zip, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(video_zip / "temporary"))
    (video_zip / "temporary").mkdir()
    source = open_source(video_zip / "ours.zarr.zip")
    convert(source, video_zip / "again.zarr")
    assert len(list((video_zip / "temporary").rglob("*.mp4"))) == 1  # the last one
    source.close()
    assert not list((video_zip / "temporary").iterdir())


def test_tasks_that_change_within_an_episode_keep_their_frames(tmp_path):
    with EpisodeWriter(tmp_path / "a.zarr", fps=10) as writer:
        spans = ((0, "pick the cube"), (4, "place it"))
        writer.add_episode({"action": np.zeros((9, 2))}, task=spans)
    store = converted(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert store.task_spans(0) == spans


class Twice(WrappedSource):
    def episodes(self):
        return [*self._source.episodes(), self._source.episodes()[0]]


def test_an_episode_that_is_listed_twice_is_refused(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS)
    opened = open_source(source)
    with pytest.raises(DataError, match="episode 0 is listed twice"):
        convert(Twice(opened, opened.info), tmp_path / "ours.zarr")


class Short(WrappedEpisode):
    def read(self, key, start, stop):
        return self._episode.read(key, start, stop)[: 2 if key == "action" else None]


def test_an_array_that_is_shorter_than_its_episode_is_refused(tmp_path):
    source = open_source(corpus.write_v21(tmp_path / "theirs", LENGTHS))
    source.open = lambda ref, real=source.open: Short(real(ref))
    with pytest.raises(DataError, match=r"'action', episode 0: 2 frames of 7"):
        convert(source, tmp_path / "ours.zarr")


KILLED_ANYWHERE = """
import os, random, shutil, signal, sys
from pathlib import Path
import numpy as np
from dipole.data import EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.registry import open_source

source, folder, images = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def attempt(path, last_call):
    calls = 0
    def count(*_):
        nonlocal calls
        calls += 1
        if calls == last_call:
            os.kill(os.getpid(), signal.SIGKILL)
    opened = open_source(source)
    sys.setprofile(count)
    convert(opened, path, images)
    sys.setprofile(None)
    return calls

attempt(folder / "first.zarr", 0)  # everything is imported now
n_calls = attempt(folder / "whole.zarr", 0)
whole = EpisodeStore.open(folder / "whole.zarr")
expected = {key: whole[key][:] for key in whole.keys()}
random.seed(images)
unfinished = 0
for number in range(8):
    path = folder / f"{number}.zarr"
    for _ in range(2):
        child = os.fork()
        if not child:
            try:
                attempt(path, random.randrange(1, n_calls))
            finally:
                os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]) or path.exists()
        random.random()
    if not path.exists():
        unfinished += 1
        convert(open_source(source), path, images)
    store = EpisodeStore.open(path)
    assert store.episode_ends.tolist() == whole.episode_ends.tolist()
    assert store.tasks == whole.tasks
    assert all(np.array_equal(store[key][:], expected[key]) for key in expected)
    shutil.rmtree(path)
    assert sorted(p.name for p in folder.iterdir()) == ["first.zarr", "whole.zarr"]
assert unfinished > 3, unfinished
"""


@pytest.mark.slow
@pytest.mark.parametrize("images", ["zstd", "keep", "jpeg", JXL])
def test_a_conversion_killed_at_sixteen_instants_comes_out_the_same(tmp_path, images):
    camera = "video" if images == "keep" else "image"
    source = corpus.write_v21(tmp_path / "theirs", [3, 2, 2], camera)
    (tmp_path / "ours").mkdir()
    arguments = [str(source), str(tmp_path / "ours"), images]
    done = subprocess.run(
        [sys.executable, "-c", KILLED_ANYWHERE, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
