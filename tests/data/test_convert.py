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
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from dipole.apps.main import main
from dipole.data import DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.inspection.validate import validate
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.registry import open_source

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
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed-size-list", "list"])
def test_numbers_and_words_of_lerobot(tmp_path, version, fixed):
    source = WRITERS[version](tmp_path / "theirs", LENGTHS, fixed=fixed)
    store = converted(source, tmp_path / "ours.zarr")
    check_numbers(store)
    assert store.tasks == ["push it", "pull it", "push it"]
    assert store.keys() == ["action", "observation.state"]  # nothing that merely counts
    assert store.schema("observation.state")["names"] == ["x", "y", "z"]


@pytest.mark.parametrize("name", ["task", "__index_level_0__"])
def test_tasks_are_found_under_both_names_of_their_column(tmp_path, name):
    source = corpus.write_v30(tmp_path / "theirs", LENGTHS, index_name=name)
    assert converted(source, tmp_path / "ours.zarr").tasks == ["push it", "pull it", "push it"]


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


@pytest.mark.parametrize("codec", ["h264", "libsvtav1", "hevc", "mpeg4"])
def test_video_of_any_codec_is_cut_where_episodes_begin(tmp_path, codec):
    source = corpus.write_v30(tmp_path / "theirs", LENGTHS, "video", codec=codec)
    expected = corpus.decoded(next((source / "videos").rglob("*.mp4")))
    store = converted(source, tmp_path / "ours.zarr", episodes=(1, 2))
    assert np.array_equal(store[CAMERA][:], expected[7:])


@settings(max_examples=8, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 15), min_size=1, max_size=4),
    key_frames=st.integers(1, 20),
    b_frames=st.integers(0, 3),
    data=st.data(),
)
def test_any_episodes_of_any_video_come_out_as_they_are(lengths, key_frames, b_frames, data):
    chosen = data.draw(st.sets(st.integers(0, len(lengths) - 1), min_size=1))
    with tempfile.TemporaryDirectory() as folder:
        options = {"g": str(key_frames), "bf": str(b_frames)}
        source = corpus.write_v30(Path(folder) / "theirs", lengths, "video", **options)
        expected = corpus.decoded(next((source / "videos").rglob("*.mp4")))
        store = converted(source, Path(folder) / "ours.zarr", episodes=tuple(chosen))
        ends = np.cumsum(lengths)
        frames = [n for e in sorted(chosen) for n in range(ends[e] - lengths[e], ends[e])]
        assert np.array_equal(store[CAMERA][:], expected[frames])
        backwards = np.arange(len(frames))[::-1]
        assert np.array_equal(store[CAMERA].take(backwards), expected[frames[::-1]])


def test_keys_and_episodes_are_chosen(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "image")
    store = converted(source, tmp_path / "a.zarr", keys=("action",), episodes=(2, 0))
    assert store.keys() == ["action"]
    assert store.episode_ends.tolist() == [7, 16]
    assert store["action"][7, 0] == 12
    with pytest.raises(DataError, match="no key 'actoin', did you mean 'action'"):
        converted(source, tmp_path / "b.zarr", keys=("actoin",))
    with pytest.raises(DataError, match="no episode 7; there are 3, 0 to 2"):
        converted(source, tmp_path / "b.zarr", episodes=(7,))


def test_a_missing_video_is_named_with_the_episodes_that_can_be_used(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", [4, 4, 4, 4, 4], "video")
    for episode in (0, 3):
        (source / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4").unlink()
    with pytest.raises(DataError) as caught:
        converted(source, tmp_path / "ours.zarr")
    assert f"videos of '{CAMERA}' are missing for 2 of 5 episodes (0,3)" in str(caught.value)
    assert "episodes=1-2,4" in str(caught.value)
    assert "keys=observation.state,action" in str(caught.value)
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
    with pytest.raises(DataError, match="not a readable zip"):
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
    with pytest.raises(DataError, match=f"'{CAMERA}', episode 1, frame 3: the picture cannot be"):
        converted(source, tmp_path / "ours.zarr")
    assert not (tmp_path / "ours.zarr").exists()


def test_a_video_with_too_few_frames_is_an_error_that_names_episode_and_frame(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    path = source / f"videos/chunk-000/{CAMERA}/episode_000002.mp4"
    path.unlink()
    corpus.encode_video(path, [corpus.smooth_picture(n) for n in range(6)])
    with pytest.raises(DataError, match=r"episode 2, episode_000002.mp4, frame 6 of 9"):
        converted(source, tmp_path / "ours.zarr")


@pytest.mark.parametrize("images", ["keep", "zstd"])
def test_a_video_cut_short_behind_its_index_is_an_error_that_names_the_frame(tmp_path, images):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    path = source / f"videos/chunk-000/{CAMERA}/episode_000002.mp4"
    frames = [corpus.picture(n) for n in range(9)]
    path.unlink()
    corpus.encode_video(path, frames, bf="0", muxer={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"000002.mp4, frame [1-6] of 9: the video ends there"):
        converted(source, tmp_path / "ours.zarr", images=images)


@pytest.mark.parametrize("images", ["keep", "zstd"])
def test_a_truncated_video_is_an_error_that_names_the_episode(tmp_path, images):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    path = source / f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"episode 1, episode_000001.mp4, .*cut short"):
        converted(source, tmp_path / "ours.zarr", images=images)
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
    monkeypatch.setattr("dipole.data.store.array_appender.SHARD_BYTES", 4 * 16 * 24 * 3)
    monkeypatch.setattr("dipole.data.store.array_appender.CHUNK_BYTES", 16 * 24 * 3)
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
    pictures = [(episode, start) for episode, key, start in asked if key == CAMERA]
    assert pictures == [(1, 1), (2, 0)]  # the first eight frames were whole shards


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


def test_a_dataset_cannot_name_files_outside_itself(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS)
    path = source / "meta/info.json"
    good = path.read_text()
    path.write_text(good.replace("data/chunk", "../other/chunk"))
    with pytest.raises(DataError, match="outside the dataset"):
        open_source(source)
    path.write_text(good.replace("{episode_index:06d}", "{episode_index.__class__}"))
    with pytest.raises(DataError, match="refused"):
        open_source(source)


def test_the_command_converts(tmp_path, capsys):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "image")
    words = ["episodes=0,1-2", f"keys=action,{CAMERA}", "images=jpeg"]
    target = str(tmp_path / "ours.zarr.zip")
    assert main(["data", "convert", str(source), target, *words]) == 0
    assert "LeRobot v2.1 at" in capsys.readouterr().out
    assert main(["data", "info", target]) == 0
    assert "'push it', 'pull it'" in capsys.readouterr().out
    assert main(["data", "convert", str(source), target]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["data", "convert", str(source), "x", "episode=1"]) == 2
    assert "did you mean 'episodes'" in capsys.readouterr().err
