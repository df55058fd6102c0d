"""Episodes of an evaluation as a dataset."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dipole.data import EpisodeWriter
from dipole.data.core.errors import DataError
from dipole.data.store.partial_folder import RECORDING, partial_folder
from dipole.data.store.store import EpisodeStore
from dipole.envs.evaluate import evaluate
from dipole.envs.evaluation.failures import failed_episodes
from dipole.envs.experts.recorded import RecordedKeys
from dipole.envs.rollout.kept import Keeper

sys.path.insert(0, str(Path(__file__).parent))
from fake_policy import FakePolicy
from tiny_simulator import SeveralTasks, ShySimulator, TellsOfSuccessAlone, TinySimulator


@pytest.mark.parametrize(("simulator", "workers"), [(TinySimulator, 0), (ShySimulator, 2)])
def test_what_was_seen_done_and_achieved_is_kept_in_the_order_of_the_seeds(
    tmp_path, simulator, workers
):
    path = tmp_path / "kept.zarr"
    run = partial(evaluate, FakePolicy(), simulator, episodes=7, seed=3)
    found = run(workers=workers, keep_episodes=path)
    assert found.episodes == run().episodes
    with EpisodeStore.open(path) as store:
        assert store.fps == 5
        numbers = store.episode_numbers()
        assert numbers["seed"].tolist() == list(range(3, 10))
        assert numbers["success"].tolist() == [episode.success for episode in found.episodes]
        lengths = np.diff([0, *store.episode_ends])
        assert lengths.tolist() == [episode.steps for episode in found.episodes]
        environment = simulator()
        seen = [environment.reset(seed=3)[0]["position"]]
        rewards = []
        for action in store["action"][: lengths[0]]:
            observation, reward, _, _, _ = environment.step(action)
            seen.append(observation["position"])
            rewards.append(reward)
        np.testing.assert_array_equal(store["position"][: lengths[0]], seen[:-1])
        np.testing.assert_allclose(store["reward"][: lengths[0]], rewards)


def test_a_task_s_name_stands_for_its_words(tmp_path):
    evaluate(FakePolicy(), SeveralTasks, episodes=3, keep_episodes=tmp_path / "kept.zarr")
    with EpisodeStore.open(tmp_path / "kept.zarr") as store:
        assert list(store.attributes["tasks"]) == ["push", "reach", "turn"]


def test_nothing_is_overwritten_and_nothing_runs_before_that_is_known(tmp_path):
    policy = FakePolicy()
    evaluate(policy, TinySimulator, episodes=1, keep_episodes=tmp_path / "kept.zarr")
    calls = policy.calls
    with pytest.raises(DataError, match="exists already"):
        evaluate(policy, TinySimulator, episodes=1, keep_episodes=tmp_path / "kept.zarr")
    assert policy.calls == calls


def test_a_dataset_that_was_begun_is_not_gone_on_with(tmp_path):
    begun = partial_folder(tmp_path / "kept.zarr")
    begun.mkdir()
    (begun / RECORDING).touch()
    with pytest.raises(DataError, match=r"unfinished dataset lies in .*\.kept\.zarr\.partial"):
        evaluate(FakePolicy(), TinySimulator, episodes=1, keep_episodes=tmp_path / "kept.zarr")


def test_where_only_success_is_told_the_other_episodes_have_failed(tmp_path):
    path = tmp_path / "kept.zarr"
    found = evaluate(FakePolicy(), TellsOfSuccessAlone, episodes=6, keep_episodes=path)
    succeeded = [episode.success for episode in found.episodes]
    assert {True, None} == {*succeeded}
    with EpisodeStore.open(path) as store:
        assert store.episode_numbers()["success"].tolist() == [bool(each) for each in succeeded]
    failed = [episode.seed for episode in found.episodes if not episode.success]
    assert [each.seed for each in failed_episodes(found.episodes, None, 1)] == failed


def test_what_an_interrupted_evaluation_leaves_is_not_gone_on_with_by_resume_true(tmp_path):
    path, results = tmp_path / "kept.zarr", []

    def interrupt(result):
        results.append(result)
        if len(results) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        evaluate(
            FakePolicy(),
            TinySimulator,
            episodes=7,
            n_envs=1,
            keep_episodes=path,
            progress=interrupt,
        )
    (note,) = caught.value.__notes__
    assert f"EpisodeWriter.resume({str(path)!r}).close() puts them in place" in note
    assert "resume=true" not in note
    EpisodeWriter.resume(path).close()
    with EpisodeStore.open(path) as store:
        assert store.episode_numbers()["seed"].tolist() == [0, 1, 2, 3]


def test_depth_that_was_not_measured_is_kept_as_0_and_ends_no_episode():
    keys = RecordedKeys({"front_depth": "front_depth", "state": "state"}, depth=("front_depth",))
    keeper = Keeper(keys)
    depth = np.ones((4, 4, 1), np.float32)
    holes = depth.copy()
    holes[0, 0], holes[1, 1] = np.nan, np.inf
    keeper.start({"front_depth": depth, "state": np.zeros(2)})
    for seen in (holes, depth, None):
        observation = None if seen is None else {"front_depth": seen, "state": np.zeros(2)}
        keeper.add(np.zeros(1), 0.0, observation)
    frames = keeper.episode().frames
    assert len(frames["action"]) == 3
    assert frames["front_depth"][1, [0, 1], [0, 1], 0].tolist() == [0, 0]
    assert frames["front_depth"].sum() == 3 * 16 - 2
    keeper.start({"front_depth": depth, "state": np.zeros(2)})
    keeper.add(np.zeros(1), 0.0, {"front_depth": depth, "state": np.array([0, np.nan])})
    keeper.add(np.zeros(1), 0.0, None)
    assert len(keeper.episode().frames["action"]) == 1
