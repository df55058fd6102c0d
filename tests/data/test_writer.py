"""What the writer refuses, and that a dataset is whole or not there."""

import numpy as np
import pytest

from dipole.data import DataError, EpisodeStore, EpisodeWriter
from dipole.data.store.writer import StoreWriter


def episode(length=5, **arrays):
    return {"state": np.zeros((length, 3)), "action": np.zeros((length, 2)), **arrays}


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
def test_nothing_is_at_the_path_until_the_writer_closes(tmp_path, name):
    writer = EpisodeWriter(tmp_path / name)
    writer.add_episode(episode())
    assert not (tmp_path / name).exists()
    writer.close()
    assert left_behind(tmp_path) == [name]
    assert EpisodeStore.open(tmp_path / name).n_frames == 5


@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
def test_after_an_exception_whole_episodes_are_kept_and_where_is_said(tmp_path, name):
    with pytest.raises(KeyboardInterrupt) as caught, EpisodeWriter(tmp_path / name) as writer:  # noqa: PT012
        writer.add_episode(episode())
        raise KeyboardInterrupt
    assert left_behind(tmp_path) == [f".{name}.partial"]
    (note,) = caught.value.__notes__
    assert "1 episodes" in note
    assert f"EpisodeWriter.resume({str(tmp_path / name)!r})" in note
    with EpisodeWriter.resume(tmp_path / name) as writer:
        assert writer.n_episodes == 1
    assert left_behind(tmp_path) == [name]
    assert EpisodeStore.open(tmp_path / name).n_frames == 5


def test_after_an_exception_before_the_first_episode_nothing_is_left(tmp_path):
    with pytest.raises(KeyboardInterrupt), EpisodeWriter(tmp_path / "a"):
        raise KeyboardInterrupt
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
def test_an_existing_path_is_refused_and_untouched(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(DataError, match="exists already"):
        EpisodeWriter(tmp_path / name)
    assert (tmp_path / name).read_text() == "precious"
    assert left_behind(tmp_path) == [name]


def test_a_path_that_appears_meanwhile_is_not_overwritten(tmp_path):
    with pytest.raises(DataError, match="exists already"), EpisodeWriter(tmp_path / "a") as writer:  # noqa: PT012
        writer.add_episode(episode())
        (tmp_path / "a").write_text("precious")
    assert (tmp_path / "a").read_text() == "precious"
    assert left_behind(tmp_path) == [".a.partial", "a"]
    (tmp_path / "a").unlink()
    EpisodeWriter.resume(tmp_path / "a").close()
    assert EpisodeStore.open(tmp_path / "a").n_episodes == 1


def test_a_writer_without_episodes_writes_nothing(tmp_path):
    with pytest.raises(DataError, match="no episodes were added"), EpisodeWriter(tmp_path / "a"):
        pass
    assert left_behind(tmp_path) == []


def test_episodes_after_the_end_are_refused(tmp_path):
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.add_episode(episode())
    with pytest.raises(DataError, match="closed"):
        writer.add_episode(episode())


nan = np.zeros((5, 3))
nan[3, 1] = np.nan
BAD = [
    ({"state": nan}, "episode 1, 'state': frame 3 is NaN"),
    ({"state": np.full((5, 3), 1e300)}, "'state': frame 0 is .* too large for float32"),
    ({"state": np.zeros((5, 4))}, r"'state': frames of shape \[4\], expected \[3\]"),
    ({"state": np.zeros((4, 3))}, "different numbers of frames.*'state': 4"),
    ({"state": np.zeros((0, 3))}, "'state': shape"),
    ({"state": np.zeros(())}, "'state': shape"),
    ({"state": np.array([[None] * 3] * 5)}, "'state': entries of type object"),
    ({"state": [["a"] * 3] * 5}, "'state': entries of type <U1"),
    ({"state": [[1, 2, 3], [1, 2]]}, "'state': not an array"),
    ({"camera": np.full((5, 2, 2, 3), 300)}, "'camera': int64 where uint8|do not fit into uint8"),
    ({"camera": np.zeros((5, 2, 2, 3))}, "'camera': float64 where uint8"),
    ({"speed": np.zeros(5)}, "new key 'speed'"),
    ({"../up": np.zeros(5)}, r"key '\.\./up'"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD, ids=[message for _, message in BAD])
def test_an_episode_that_does_not_fit_is_refused_and_the_others_stay(tmp_path, arrays, message):
    camera = np.zeros((5, 2, 2, 3), np.uint8)
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.add_episode(episode(camera=camera))
        with pytest.raises(DataError, match=message):
            writer.add_episode({**episode(camera=camera), **arrays})
        writer.add_episode(episode(camera=camera))
    assert EpisodeStore.open(tmp_path / "a").episode_ends.tolist() == [5, 10]


def test_an_episode_without_an_action_is_refused(tmp_path):
    writer = EpisodeWriter(tmp_path / "a")
    with pytest.raises(DataError, match="has no 'action'"):
        writer.add_episode({"state": np.zeros((5, 3))})
    writer.abandon()
    assert left_behind(tmp_path) == []


def test_a_first_episode_that_is_refused_settles_nothing(tmp_path):
    with EpisodeWriter(tmp_path / "a") as writer:
        with pytest.raises(DataError):
            writer.add_episode({"action": np.zeros((5, 9)), "state": nan})
        writer.add_episode({"action": np.zeros((5, 2))})
    assert EpisodeStore.open(tmp_path / "a").keys() == ["action"]


def test_pictures_with_channels_first_are_refused_and_maps_of_numbers_are_not(tmp_path):
    first = episode(camera=np.zeros((5, 3, 48, 64), np.uint8))
    with EpisodeWriter(tmp_path / "a") as writer:
        with pytest.raises(DataError, match=r"'camera': .* \[3, 48, 64\] .* channels first: trans"):
            writer.add_episode(first)
        writer.add_episode(episode(camera=np.zeros((5, 48, 64, 3), np.uint8)))
    with EpisodeWriter(tmp_path / "b", features={"camera": {"kind": "state"}}) as writer:
        writer.add_episode(first)
    assert EpisodeStore.open(tmp_path / "b").schema("camera")["kind"] == "state"


def test_float64_becomes_float32_unless_declared(tmp_path):
    with EpisodeWriter(tmp_path / "a", features={"state": {"dtype": "float64"}}) as writer:
        writer.add_episode(episode())
    store = EpisodeStore.open(tmp_path / "a")
    assert (store["state"].dtype, store["action"].dtype) == (np.float64, np.float32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0}, "fps is 0"),
        ({"fps": "30"}, "fps is '30': frames per second are a positive number"),
        ({"fps": True}, "fps is True"),
        ({"environment": "x"}, "environment is 'x': a table is needed, such as {'id'"),
        ({"features": [1]}, r"features is \[1\]: a table is needed, such as {'joints'"),
        ({"features": {"state": "m"}}, r"features\['state'\] is 'm': a table is needed"),
        ({"attributes": [1]}, r"attributes is \[1\]: a table is needed"),
        ({"features": {"state": {"unit": "m"}}}, "no field 'unit', did you mean 'units'"),
        ({"features": {"state": {"kind": "imge"}}}, "'imge', did you mean 'image'"),
        ({"features": {"state": {"dtype": "object"}}}, "only numbers"),
        ({"features": {"state": {"dtype": "flaot32"}}}, "flaot32"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        EpisodeWriter(tmp_path / "a", **options)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("n_before", [0, 1])
def test_a_full_disk_costs_the_episode_in_hand_alone(tmp_path, monkeypatch, n_before):
    from dipole.data.store.array_appender import ArrayAppender

    append = ArrayAppender.append

    def full(self, frames):
        if self.name == "data/state":
            raise OSError(28, "No space left on device")
        append(self, frames)

    writer = EpisodeWriter(tmp_path / "a")
    for _ in range(n_before):
        writer.add_episode(episode())
    with monkeypatch.context() as patch:
        patch.setattr(ArrayAppender, "append", full)
        with pytest.raises(DataError, match=r"the disk is full.*No space left"):
            writer.add_episode(episode(7))
    writer.add_episode(episode(3))
    writer.close()
    ends = EpisodeStore.open(tmp_path / "a").episode_ends.tolist()
    assert ends == ([5, 8] if n_before else [3])


@pytest.mark.parametrize("images", ["zstd", "jpeg", "jxl"])
@pytest.mark.parametrize("shape", [(8, 12, 4), (8, 12), (8, 12, 2)])
def test_pictures_that_no_codec_takes_are_stored_as_numbers(tmp_path, images, shape):
    pytest.importorskip("pillow_jxl")
    camera = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    features = {"camera": {"kind": "image"}}
    with EpisodeWriter(tmp_path / "a.zarr", images=images, features=features) as writer:
        writer.add_episode(episode(camera=camera))
    store = EpisodeStore.open(tmp_path / "a.zarr")
    assert np.array_equal(store["camera"][:], camera)
    assert store.schema("camera")["kind"] == "image"


def test_a_store_writer_that_is_told_nothing_stores_them_as_numbers_too(tmp_path):
    writer = StoreWriter(tmp_path / "a.zarr", "jpeg")
    camera = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 4), dtype=np.uint8)
    writer.array("camera", (8, 12, 4), np.dtype(np.uint8)).append(camera)
    writer.commit_episode(5)
    writer.finish({})
    assert np.array_equal(EpisodeStore.open(tmp_path / "a.zarr")["camera"][:], camera)
