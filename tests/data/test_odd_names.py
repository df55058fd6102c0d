"""Keys whose names no dataset can have: left out with the reason, or taken by another name."""

import h5py
import numpy as np
import pytest
import zarr

from dipole.data import DataError, EpisodeStore
from dipole.data.convert import ConversionRequest, run
from dipole.data.sources.registry import open_source

N = 6
ARRAYS = {"actions": np.arange(N)[:, None], "eef quat": np.ones((N, 4)), "Größe": np.ones((N, 1))}


def write_npz(path):
    path.mkdir()
    for number in range(2):
        np.savez(path / f"{number}.npz", **ARRAYS)


def write_robomimic(path):
    with h5py.File(path, "w") as file:
        for number in range(2):
            for name, values in ARRAYS.items():
                place = name if name == "actions" else f"obs/{name}"
                file[f"data/demo_{number}/{place}"] = values


def write_maniskill(path):
    with h5py.File(path, "w") as file:
        for number in range(2):
            file[f"traj_{number}/actions"] = ARRAYS["actions"]
            for name in ("eef quat", "Größe"):
                file[f"traj_{number}/obs/{name}"] = np.ones((N + 1, *ARRAYS[name].shape[1:]))


def write_aloha(path):
    path.mkdir()
    for number in range(2):
        with h5py.File(path / f"{number}.hdf5", "w") as file:
            file["action"] = ARRAYS["actions"]
            for name in ("eef quat", "Größe"):
                file[f"observations/{name}"] = ARRAYS[name]


def write_zarr(path):
    group = zarr.create_group(path)
    for name, values in ARRAYS.items():
        twice = np.concatenate([values, values])
        group.create_array(f"data/{name.replace('actions', 'action')}", data=twice)
    group.create_array("meta/episode_ends", data=np.array([N, 2 * N]))


@pytest.fixture(params=[write_npz, write_robomimic, write_maniskill, write_aloha, write_zarr])
def theirs(request, tmp_path):
    request.param(tmp_path / "theirs.hdf5")
    return tmp_path / "theirs.hdf5"


def test_keys_of_odd_names_are_left_out_with_what_to_do(theirs, tmp_path):
    report = run(ConversionRequest(theirs, tmp_path / "ours.zarr"))
    assert report.keys == ("action",)
    assert set(report.left_out) == {"eef quat", "Größe"}
    assert report.left_out["eef quat"].endswith("take it by --rename 'eef quat=NAME'")


def test_keys_of_odd_names_are_taken_by_other_names(theirs, tmp_path):
    rename = {"eef quat": "eef_quat"}
    report = run(ConversionRequest(theirs, tmp_path / "ours.zarr", rename=rename))
    assert report.keys == ("action", "eef_quat")
    assert set(report.left_out) == {"Größe"}
    assert EpisodeStore.open(tmp_path / "ours.zarr")["eef_quat"].shape == (2 * N, 4)


def test_a_new_name_that_is_odd_too_is_refused(theirs, tmp_path):
    request = ConversionRequest(theirs, tmp_path / "ours.zarr", rename={"eef quat": "quat 2"})
    with pytest.raises(DataError, match="the new name of 'eef quat': key 'quat 2'"):
        run(request)


def test_an_odd_key_that_is_not_taken_may_be_of_any_length(tmp_path):
    write_npz(tmp_path / "theirs")
    np.savez(tmp_path / "theirs/1.npz", **{**ARRAYS, "Größe": np.ones((2, 1))})
    source = open_source(tmp_path / "theirs")
    assert source.open(source.episodes()[1]).n_frames == N
    rename = {"Größe": "size"}
    request = ConversionRequest(tmp_path / "theirs", tmp_path / "ours.zarr", rename=rename)
    with pytest.raises(DataError, match=r"1\.npz: 'Größe' has 2 frames, 6 expected"):
        run(request)
