"""Minari datasets: one observation more than actions, in an array or a dictionary of them."""

import json

import h5py
import numpy as np
import pytest

from dipole.data import DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.registry import open_source


def write(root, lengths=(4, 3), dictionary=False, discrete=False):
    (root / "data").mkdir(parents=True)
    spec = json.dumps({"id": "AntMaze-v4", "max_episode_steps": 100})
    (root / "data/metadata.json").write_text(json.dumps({"env_spec": spec, "dataset_id": "a/b-v1"}))
    with h5py.File(root / "data/main_data.hdf5", "w") as file:
        for number, n in enumerate(lengths):
            group = file.create_group(f"episode_{number}")
            seen = np.arange((n + 1) * 2, dtype=np.float64).reshape(n + 1, 2)
            if dictionary:
                group["observations/achieved_goal"] = seen
                group["observations/desired_goal/light switch"] = seen
                group["observations/mission"] = np.array([b"go"] * (n + 1))
                group["observations/image"] = np.zeros((n + 1, 8, 8, 3), np.uint8)
            else:
                group["observations"] = seen
            group["actions"] = np.arange(n) if discrete else np.full((n, 3), number, np.float32)
            group["rewards"] = np.ones(n)
            group["terminations"] = np.zeros(n, bool)
            group["infos/qpos"] = np.zeros((n + 1, 9))
    return root


@pytest.mark.parametrize("place", ["", "data", "data/main_data.hdf5"])
def test_the_last_observation_is_left_out_because_nothing_was_done_after_it(tmp_path, place):
    source = write(tmp_path / "theirs") / place
    report = convert(open_source(source), tmp_path / "ours.zarr")
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert store.keys() == ["action", "observation", "rewards", "terminations"]
    assert store.episode_ends.tolist() == [4, 7]
    assert store["observation"][3:5].tolist() == [[6, 7], [0, 1]]
    assert store["action"][:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert store.environment["id"] == "AntMaze-v4"
    assert report.left_out == {"infos/qpos": "infos are not what a policy sees"}


def test_dictionaries_become_keys_of_their_own_and_text_is_left_out(tmp_path):
    source = open_source(write(tmp_path / "theirs", dictionary=True))
    assert {"achieved_goal", "desired_goal.light_switch"} <= set(source.info.frames)
    assert source.info.frames["image"].kind == "image"
    assert "text" in source.info.left_out["observations/mission"]


def test_discrete_actions_are_vectors_of_one(tmp_path):
    source = open_source(write(tmp_path / "theirs", discrete=True))
    assert source.info.frames["action"].shape == (1,)
    assert source.open(source.episodes()[0]).read("action", 2, 4).tolist() == [[2], [3]]


def test_as_many_observations_as_actions_are_refused(tmp_path):
    root = write(tmp_path / "theirs", lengths=(4,))
    with h5py.File(root / "data/main_data.hdf5", "a") as file:
        del file["episode_0/observations"]
        file["episode_0/observations"] = np.zeros((4, 2))
    with pytest.raises(DataError, match="observations has 4 frames, 5 expected beside 4 actions"):
        convert(open_source(root), tmp_path / "ours.zarr")


def test_actions_in_a_dictionary_are_named_for_concatenation(tmp_path):
    with h5py.File(tmp_path / "main_data.hdf5", "w") as file:
        file["episode_0/observations"] = np.zeros((4, 2))
        file["episode_0/actions/arm"] = np.zeros((3, 6))
        file["episode_0/actions/gripper"] = np.zeros((3, 1))
    with pytest.raises(DataError, match=r"--concatenate action=action.arm,action.gripper"):
        convert(open_source(tmp_path), tmp_path / "ours.zarr")
