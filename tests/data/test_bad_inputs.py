"""Every way a dataset can be bad is an error that names the place and says what to do."""

import importlib.util
import pickle
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dipole.data import DataError, EpisodeStore, Windows, WindowSpec, bundled, make_loader
from dipole.data.inspection.validate import validate

_spec = importlib.util.spec_from_file_location("corpus", Path(__file__).with_name("corpus.py"))
corpus = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(corpus)

# Episodes of 10 frames each; version 2 in chunks of 8 frames, so the last chunk holds 24 to 29.
BAD = [
    (2, "nothing_there", r"elsewhere\.zarr: there is no dataset here; check the path"),
    (2, "empty_folder", r"not an episode store; neither zarr\.json .* nor \.zgroup"),
    (
        2,
        "not_a_zip",
        r"demos\.hdf5: (HDF5, which is not read as it is\. Convert|.* cannot be opened)",
    ),
    (2, "zip_with_the_folder_inside", r"folder 'demos\.zarr': .*zip what is inside it"),
    (2, "truncated_zip", r"demos\.zarr\.zip: not a readable zip .*truncated"),
    (2, "damaged_zip_member", r"'state', frames 24 to 29: .*CRC-32"),
    (3, "damaged_zip_member", r"'state', frames 0 to 29: .*checksum"),
    (2, "missing_chunk", r"'state', frames 24 to 29: data/state/3\.0 is missing\. Copy"),
    (3, "missing_chunk", r"'state', frames 0 to 29: data/state/c/0/0 is missing\. Copy"),
    (2, "empty_chunk", r"'state', frames 24 to 29: data/state/3\.0 is cut short at 0 bytes"),
    (3, "empty_chunk", r"'state', frames 0 to 29: data/state/c/0/0 is cut short at 0 bytes"),
    (2, "truncated_chunk", r"'state', frames 24 to 29: .* bytes, \d+ by its own header"),
    (3, "truncated_chunk", r"'state', frames 0 to 29: "),
    (2, "chunk_of_another_size", r"'state', frames 24 to 29: .*holds 48 bytes, 96 by the metadata"),
    (
        3,
        "missing_chunk_inside_a_shard",
        r"'state', frames 0 to 29: chunk \[0, 0\] is missing inside",
    ),
    (3, "flipped_bit_inside_a_shard", r"'state', frames 0 to 29: its chunk is damaged .*checksum"),
    (
        3,
        "flipped_bit_in_a_shard_index",
        r"'state', frames 0 to 29: .* has an index whose checksum is wrong",
    ),
    (2, "object_array", r"data/state/\.zarray: its entries are 'object', not numbers.*float32"),
    (2, "pickled_numbers", r"data/state/\.zarray: codec 'pickle' is refused"),
    (2, "text_array", r"data/state/\.zarray: its entries are 'str256', not numbers"),
    (3, "variable_length_v3", r"data/state/zarr\.json: its entries are .* not numbers"),
    (3, "record_v3", r"data/state/zarr\.json: its entries are .* not numbers"),
    (3, "unknown_codec_v3", r"data/state/zarr\.json: codec 'pickle' is refused"),
    (2, "broken_json", r"data/state/\.zarray: not valid zarr metadata .*write the dataset again"),
    (3, "broken_attributes", r"zarr\.json is not valid \(attribute 'fps' is 'ten'"),
    (2, "enormous_metadata", r"data/state/\.zarray has 17,825,792 bytes, too many"),
    (
        2,
        "absurd_length",
        r"'\w+', frames \d+ to 999999999999: data/\w+/124999999999[.0]+ is missing",
    ),
    (2, "absurd_chunk", r"data/state/\.zarray: .* means 1.12e\+04 GiB at once"),
    (2, "absurd_frame", r"data/state/\.zarray: .* GiB at once"),
    (2, "absurd_episode_count", r"'meta/episode_ends', frames .* is missing"),
    (3, "absurd_shard", r"data/state|'state'"),
    (2, "negative_shape", r"data/state/\.zarray: not valid zarr metadata .*-30"),
    (2, "other_rank", r"data/state/\.zarray: shape \[30, 3, 1\] with chunks of \[8, 3\]"),
    (2, "no_episode_ends", r"no meta/episode_ends, so where episodes end is unknown"),
    (2, "ends_out_of_order", r"must increase, but episode 1 ends at frame 10 and begins at 20"),
    (2, "ends_twice_the_same", r"must increase, but episode 1 ends at frame 10 and begins at 10"),
    (2, "ends_of_floats", r"meta/episode_ends is float64 .* write it as int64"),
    (2, "ends_in_a_table", r"meta/episode_ends is int64 of shape \[3, 1\]"),
    (2, "ends_past_the_frames", r"has 30 frames, but the last episode ends at 31"),
    (2, "one_array_shorter", r"array 'state' has 29 frames, but the last episode ends at 30"),
    (2, "no_arrays", r"no arrays under data/.*see docs/data-format\.md"),
]


@pytest.fixture(params=BAD, ids=[f"v{version}-{name}" for version, name, _ in BAD])
def bad(request, sound, tmp_path):
    """A bad dataset's path, and what its error must say."""
    version, name, message = request.param
    return getattr(corpus, name)(sound(version, tmp_path / "demos.zarr")), message


def contents(path):
    files = sorted(f for f in path.parent.rglob("*") if f.is_file())
    return {file: file.read_bytes() for file in files}


def read_everything(path):
    store = EpisodeStore.open(path)
    return {key: store[key][:] for key in ("state", "action", "camera")}


def test_reading_is_an_error_that_says_where_and_what_to_do(bad):
    path, message = bad
    before = contents(path)
    with pytest.raises(DataError) as caught:
        read_everything(path)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(path) == before  # nothing is lost or overwritten


def test_training_on_it_is_the_same_error(bad):
    path, _ = bad
    with pytest.raises(DataError):
        make_loader(
            Windows(EpisodeStore.open(path), WindowSpec(2, 8, 4)),
            batch_size=4,
            seed=0,
            log=lambda _: None,
        )


def test_validation_lists_it(bad):
    path, message = bad
    result = validate(path)
    assert not result.ok
    assert any(re.search(message, finding.message) for finding in result.problems), result.problems


def test_nothing_is_allocated_for_what_metadata_claims(bad):
    path, _ = bad
    tracemalloc.start()
    with pytest.raises(DataError):
        read_everything(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20


def test_the_sound_ones_are_sound(sound, tmp_path):
    for path in (sound(2, tmp_path / "two.zarr"), sound(3, tmp_path / "three.zarr")):
        assert read_everything(path)["state"][29, 0] == 29
        assert read_everything(corpus.zip_of(path))["state"][29, 0] == 29


def test_reading_never_unpickles(write, write_v2, monkeypatch):
    paths = [write([30]), write_v2([30])]

    def refuse(*_, **__):
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for path in paths:
        windows = Windows(EpisodeStore.open(path), WindowSpec(2, 8, 4))
        loader = make_loader(windows, batch_size=4, seed=0, log=lambda _: None)
        assert next(loader.batches(0))["action"].shape == (4, 8, 2)


def test_a_missing_chunk_is_found_before_the_frames_are_needed_by_name(write_v2):
    path = write_v2([40])
    (path / "data/action/1.0").unlink()
    store = EpisodeStore.open(path)
    assert store["action"][:8].shape == (8, 2)  # the others can be read
    with pytest.raises(DataError, match="'action', frames 8 to 15"):
        store["action"].take(np.array([0, 9]))
    with pytest.raises(DataError, match="'action', frames 8 to 15"):
        Windows(store, WindowSpec(2, 8, 4)).statistics()


def test_a_bundled_name_that_does_not_exist_answers_with_those_that_do(tmp_path, monkeypatch):
    (tmp_path / "pusht_expert.zarr.zip").touch()
    monkeypatch.setattr("dipole.data.store.bundle._FOLDER", tmp_path)
    assert bundled("pusht") == tmp_path / "pusht_expert.zarr.zip"
    with pytest.raises(DataError, match="no bundled dataset 'pushT', did you mean 'pusht'"):
        EpisodeStore.open("bundled:pushT")
    with pytest.raises(DataError, match="Bundled: pusht; for your own give its path"):
        bundled("../../etc")
