"""A key that is not taken may be of any length, or missing, and is no obstacle to the others."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from dipole.apps.commands.data import main
from dipole.data import DataError, EpisodeStore
from dipole.data.convert import ConversionRequest, run
from dipole.data.sources.registry import open_source

sys.path.insert(0, str(Path(__file__).parent))
from test_rlds import example, record

N = 6
EPISODES = 2
GOAL, ACTION = np.ones((3, 1), np.float32), np.zeros((N, 2), np.float32)


def write_robomimic(path):
    with h5py.File(path, "w") as file:
        for number in range(EPISODES):
            file[f"data/demo_{number}/actions"] = ACTION
            file[f"data/demo_{number}/obs/state"] = ACTION
            file[f"data/demo_{number}/goal"] = GOAL
        file["data/demo_0/first_only"] = ACTION


def write_trajectories(path, group, observations):
    with h5py.File(path, "w") as file:
        for number in range(EPISODES):
            file[f"{group}_{number}/actions"] = ACTION
            file[f"{group}_{number}/{observations}/state"] = np.zeros((N + 1, 2))
            file[f"{group}_{number}/goal"] = GOAL
        file[f"{group}_0/first_only"] = ACTION


def write_maniskill(path):
    write_trajectories(path, "traj", "obs")


def write_minari(path):
    path.mkdir()
    write_trajectories(path / "main_data.hdf5", "episode", "observations")


def write_aloha(path):
    path.mkdir()
    for number in range(EPISODES):
        with h5py.File(path / f"{number}.hdf5", "w") as file:
            file["action"] = file["observations/state"] = ACTION
            file["goal"] = GOAL
            if not number:
                file["first_only"] = ACTION


def write_npz(path):
    path.mkdir()
    for number in range(EPISODES):
        more = {} if number else {"first_only": ACTION, "an odd name": ACTION}
        np.savez(path / f"{number}.npz", action=ACTION, state=ACTION, goal=GOAL, **more)


def write_rlds(path):
    path.mkdir()
    with open(path / "a.tfrecord", "wb") as file:
        for number in range(EPISODES):
            steps = {"is_first": np.zeros(N, np.int64), "action": ACTION}
            steps |= {"observation/state": ACTION, "goal": ACTION if not number else ACTION[:3]}
            steps |= {} if number else {"first_only": ACTION}
            features = {f"steps/{name}": values for name, values in steps.items()}
            file.write(record(example({k: v.ravel() for k, v in features.items()})))


WRITERS = [write_robomimic, write_maniskill, write_minari, write_aloha, write_npz, write_rlds]


@pytest.fixture(params=WRITERS, ids=lambda writer: writer.__name__)
def theirs(request, tmp_path):
    path = tmp_path / "theirs"
    request.param(path)
    return path


def test_keys_leave_out_arrays_that_are_not_as_the_others(theirs, tmp_path):
    assert main(["convert", str(theirs), str(tmp_path / "o"), "--keys", "state,action"]) == 0
    assert EpisodeStore.open(tmp_path / "o").episode_ends.tolist() == [N, 2 * N]


def test_with_all_keys_the_error_names_the_odd_one_and_says_keys(theirs, tmp_path):
    with pytest.raises(DataError, match=r"(goal|first_only).*--keys"):
        run(ConversionRequest(theirs, tmp_path / "ours.zarr"))


@pytest.mark.parametrize("rename", [{}, {"an odd name": "odd"}])
def test_the_error_of_npz_says_which_keys_fit(tmp_path, rename):
    write_npz(tmp_path / "theirs")
    request = ConversionRequest(tmp_path / "theirs", tmp_path / "ours.zarr", rename=rename)
    with pytest.raises(DataError, match=r"'goal' has 3, 6 expected.*--keys .*action,state"):
        run(request)


def test_a_key_of_an_odd_name_cannot_be_chosen_by_it(tmp_path):
    write_npz(tmp_path / "theirs")
    request = ConversionRequest(
        tmp_path / "theirs", tmp_path / "ours.zarr", keys=("action", "an odd name")
    )
    with pytest.raises(DataError, match="take it by --rename 'an odd name=NAME'"):
        run(request)


def test_frames_of_npz_without_an_action_are_counted_by_most(tmp_path):
    np.savez(tmp_path / "0.npz", goal=GOAL, state=ACTION, command=ACTION)
    source = open_source(tmp_path)
    with pytest.raises(DataError, match="'goal' has 3, 6 expected"):
        source.open(source.episodes()[0])
