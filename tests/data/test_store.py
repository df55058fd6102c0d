"""Reading and writing episode stores, version 3 and version 2, folders and zips."""

import json
import zipfile

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data import DataError, EpisodeStore, EpisodeWriter


def zipped(folder):
    """The same store as a zip beside the folder."""
    path = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("name", ["demos.zarr", "demos.zarr.zip"])
def test_what_is_written_is_read_back(write, name):
    store = EpisodeStore.open(write([6, 4], name=name, fps=10))
    assert (store.n_episodes, store.n_frames, store.fps) == (2, 10, 10.0)
    assert store.episode_ends.tolist() == [6, 10]
    assert store.episode_ends.dtype == np.int64
    assert store.keys() == ["action", "camera", "state"]
    assert store["state"][:, 1].tolist() == [0] * 6 + [1] * 4
    assert store["camera"].dtype == np.uint8
    assert store["camera"][9].max() == 9


@pytest.mark.parametrize("as_zip", [False, True])
def test_the_layout_of_diffusion_policy_is_read_as_it_stands(write_v2, as_zip):
    path = write_v2([6, 40, 4], chunk_frames=8)
    store = EpisodeStore.open(zipped(path) if as_zip else path)
    assert store.episode_ends.tolist() == [6, 46, 50]
    assert store["action"][:, 1].tolist() == [-float(i) for i in range(50)]
    assert (store.fps, store.environment, store.attributes) == (None, {}, {})
    assert store.schema("camera") == {
        "kind": "image",
        "shape": [4, 4, 3],
        "dtype": "uint8",
        "units": "",
    }


def test_the_human_data_is_read_as_it_stands(human_path):
    store = EpisodeStore.open(human_path)
    assert (store.n_episodes, store.n_frames) == (206, 25_650)
    assert store.keys() == ["action", "img", "keypoint", "n_contacts", "state"]
    action = store["action"][:]
    assert (action.min(0).tolist(), action.max(0).tolist()) == ([12, 25], [511, 511])
    assert store["img"].shape == (25_650, 96, 96, 3)
    assert store["img"][25_649].dtype == np.uint8


def test_attributes_hold_schema_fps_and_environment(write):
    path = write(
        [6],
        fps=12.5,
        features={"state": {"units": "mm"}, "action": {"units": "mm", "shape": (2,)}},
        environment={"id": "pusht", "version": "gym-pusht 0.1.8"},
    )
    store = EpisodeStore.open(path)
    assert store.attributes == {
        "dipole_format": 1,
        "fps": 12.5,
        "environment": {"id": "pusht", "version": "gym-pusht 0.1.8"},
        "schema": {
            "state": {"kind": "state", "shape": [3], "dtype": "float32", "units": "mm"},
            "action": {"kind": "action", "shape": [2], "dtype": "float32", "units": "mm"},
            "camera": {"kind": "image", "shape": [4, 4, 3], "dtype": "uint8", "units": ""},
        },
    }
    assert store.environment["id"] == "pusht"


INDICES = [
    0,
    -1,
    np.int64(7),
    slice(None),
    slice(3, 9),
    slice(9, 3),
    slice(None, None, 3),
    slice(8, 2, -2),
    [1, 1, 49],
    np.array([[0, 1], [2, 3]]),
    np.arange(50) % 2 == 0,
    (slice(2, 4), 1),
    (5, 1),
    ([4, 2], slice(1, None)),
    ([[4], [2]], 1),
    (..., 0),
    ...,
    (),
    None,
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_answers_as_numpy_does(write_v2, index):
    stored = EpisodeStore.open(write_v2([50]))["state"]
    plain = np.asarray(stored)
    assert plain.shape == (50, 3)
    expected = plain[index]
    assert np.shape(stored[index]) == expected.shape
    assert np.array_equal(stored[index], expected)


@pytest.mark.parametrize("index", [50, -51, [0, 50]], ids=str)
def test_a_frame_past_the_end_is_an_index_error(write_v2, index):
    with pytest.raises(IndexError):
        EpisodeStore.open(write_v2([50]))["state"][index]


def test_pairs_of_lists_are_refused_rather_than_misread(write_v2):
    with pytest.raises(IndexError, match="choose frames first"):
        EpisodeStore.open(write_v2([50]))["state"][[4, 2], [0, 1]]


def test_taking_frames_decodes_only_their_chunks_and_each_once(write_v2, monkeypatch):
    stored = EpisodeStore.open(write_v2([100], chunk_frames=10))["state"]
    decoded = []
    decode = stored._decode
    monkeypatch.setattr(stored, "_decode", lambda a, b: decoded.append((a, b)) or decode(a, b))
    assert stored.take(np.array([[95, 12], [13, 95]]))[..., 0].tolist() == [[95, 12], [13, 95]]
    assert decoded == [(10, 20), (90, 100)]
    stored.take(np.array([11, 99]))
    assert len(decoded) == 2


def test_an_array_split_along_other_axes_is_read_whole(tmp_path, write_v2):
    path = write_v2([20])
    wide = np.arange(20 * 7, dtype=np.float32).reshape(20, 7)
    zarr.open_group(path, mode="r+").create_array(
        "data/wide", shape=wide.shape, chunks=(8, 3), dtype="f4"
    )[:] = wide
    stored = EpisodeStore.open(path)["wide"]
    assert np.array_equal(stored[:], wide)
    (path / "data/wide/1.2").unlink()
    with pytest.raises(DataError, match="'wide', frames 8 to 15"):
        EpisodeStore.open(path)["wide"].take(np.array([9]))


def test_many_shards_and_chunks_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("dipole.data.store.zarr.encoding.CHUNK_BYTES", 4 * 8)
    monkeypatch.setattr("dipole.data.store.zarr.encoding.SHARD_BYTES", 16 * 8)
    values = np.arange(2 * 103, dtype=np.float32).reshape(103, 2)
    values[20:60] = 0  # chunks of zeros are written too
    with EpisodeWriter(tmp_path / "a.zarr") as writer:
        for part in np.split(values, [5, 50, 51]):
            writer.add_episode({"action": part})
    shards = sorted(p.parent.name for p in (tmp_path / "a.zarr/data/action/c").glob("*/0"))
    assert len(shards) == 7  # 16 frames each
    store = EpisodeStore.open(tmp_path / "a.zarr")
    assert np.array_equal(store["action"][:], values)
    assert np.array_equal(store["action"].take(np.arange(103)), values)
    assert all(store["action"].chunk_error(b) is None for b in range(store["action"].n_chunks))


def test_it_is_zarr_3_with_shards_and_checksums(write):
    metadata = json.loads((write([6]) / "data/state/zarr.json").read_text())
    sharding = metadata["codecs"][0]
    assert metadata["zarr_format"] == 3
    assert sharding["name"] == "sharding_indexed"
    assert "crc32c" in [codec["name"] for codec in sharding["configuration"]["codecs"]]
    assert "crc32c" in [codec["name"] for codec in sharding["configuration"]["index_codecs"]]


def test_plain_zarr_reads_what_we_write(write):
    group = zarr.open_group(write([6, 4]), mode="r")
    assert group["meta/episode_ends"][:].tolist() == [6, 10]
    assert group["data/action"][:, 0].tolist() == list(range(10))


def test_the_same_episodes_give_the_same_zip(write):
    first, second = (write([6, 4], name=f"{n}.zarr.zip") for n in "ab")
    assert first.read_bytes() == second.read_bytes()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_episode_ends_are_the_lengths_added_up(tmp_path_factory, lengths):
    path = tmp_path_factory.mktemp("ends") / "a.zarr"
    with EpisodeWriter(path) as writer:
        for length in lengths:
            writer.add_episode({"action": np.ones((length, 1))})
    store = EpisodeStore.open(path)
    assert store.episode_ends.tolist() == np.cumsum(lengths).tolist()
    assert store.episode_starts.tolist() == [0, *np.cumsum(lengths)[:-1].tolist()]


def test_the_fingerprint_is_of_the_content(write, write_v2):
    one = EpisodeStore.open(write([6, 4], name="a.zarr")).fingerprint()
    assert EpisodeStore.open(write([6, 4], name="b.zarr.zip")).fingerprint() == one
    assert EpisodeStore.open(write([4, 6], name="c.zarr")).fingerprint() != one
    assert EpisodeStore.open(write([6, 4], name="d.zarr", fps=5)).fingerprint() != one


def test_an_unknown_key_answers_with_the_nearest(write):
    with pytest.raises(DataError, match="no array 'sate', did you mean 'state'"):
        EpisodeStore.open(write([6]))["sate"]


def test_a_store_sent_to_another_process_opens_the_same_files(write):
    store = EpisodeStore.open(write([6, 4]))
    make, arguments = store.__reduce__()
    assert make(*arguments)["state"][9].tolist() == store["state"][9].tolist()
