"""Other people's datasets become episode stores: the same numbers, the same pictures, the words."""

import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from dipole.apps.main import main
from dipole.data import ConfigError, DataError, EpisodeStore, EpisodeWriter
from dipole.data.convert import convert
from dipole.data.inspection.validate import validate
from dipole.data.sources.combine.joined import joined
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.registry import open_source
from dipole.data.store.video_array import VideoArray

sys.path.insert(0, str(Path(__file__).parent))
import lerobot_corpus as corpus
from conversions import CAMERA, JXL, LENGTHS, converted, damage_picture, left_behind

WRITERS = {"v2.1": corpus.write_v21, "v3.0": corpus.write_v30}


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


def test_a_camera_without_any_video_can_be_left_out(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", [4, 4], "video")
    for file in (source / f"videos/chunk-000/{CAMERA}").iterdir():
        file.unlink()
    message = (
        r"missing for 2 of 2 episodes \(0-1\)\. The episodes can be used without it with --keys"
    )
    with pytest.raises(DataError, match=message):
        converted(source, tmp_path / "ours.zarr")


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


def noted(path, **notes):
    with EpisodeWriter(path, fps=10, attributes=notes) as writer:
        writer.add_episode(
            {"state": np.zeros((5, 2)), "action": np.zeros((5, 1))}, "push", {"seed": 3}
        )
    return path


def test_what_a_dataset_says_of_itself_stays(tmp_path):
    notes = {"recording": {"expert": "scripted"}, "notes": "Gripper pads were worn."}
    store = converted(noted(tmp_path / "a.zarr", **notes), tmp_path / "b.zarr")
    assert {name: store.attributes[name] for name in notes} == notes
    other = noted(tmp_path / "c.zarr", recording={"expert": "hand"}, notes=notes["notes"])
    both = joined([open_source(tmp_path / "a.zarr"), open_source(other)])
    report = convert(both, tmp_path / "d.zarr")
    with EpisodeStore.open(tmp_path / "d.zarr") as store:
        assert store.attributes["notes"] == notes["notes"]
        assert "recording" not in store.attributes
    assert "the attribute 'recording' is not the same in all" in report.warnings[0]


def test_what_recordings_have_in_common_stays_when_they_are_joined(tmp_path):
    said = {"environment": {"id": "reach", "options": {"stiffness": 0.5}}, "keys": {}, "seed": 1}
    one = noted(tmp_path / "a.zarr", recording=said)
    two = noted(tmp_path / "b.zarr", recording={**said, "seed": 2})
    both = joined([open_source(one), open_source(two)])
    assert both.info.attributes["recording"] == {k: said[k] for k in ("environment", "keys")}
    assert ["'recording.seed'" in warning for warning in both.info.warnings] == [True]
    other = {"id": "reach", "options": {"stiffness": 2.0}}
    three = noted(tmp_path / "c.zarr", recording={**said, "environment": other})
    mixed = joined([open_source(one), open_source(three)]).info.attributes["recording"]
    assert mixed == {"keys": {}, "seed": 1}  # no half of an environment


def test_notes_of_other_formats_stand_apart(tmp_path):
    path = tmp_path / "theirs.hdf5"
    with h5py.File(path, "w") as file:
        file["data/demo_0/actions"] = np.zeros((5, 2))
        file["data/demo_0/states"] = np.zeros((5, 2))
        file["data"].attrs.update({"date": "2021", "fps": 3, "odd": np.nan})
    store = converted(path, tmp_path / "ours.zarr")
    assert store.attributes["source_attributes"] == {"date": "2021", "fps": 3}


def test_what_is_no_dataset_is_refused_with_what_is_known(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="not a dataset that is known"):
        open_source(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="there is no dataset here"):
        open_source(tmp_path / "nothing")


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
