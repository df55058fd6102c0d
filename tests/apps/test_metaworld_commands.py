"""MetaWorld from the command line: demonstrations, a training, an evaluation."""

import json

import pytest

from dipole.apps.main import main
from dipole.data import EpisodeStore
from dipole.envs.metaworld.tasks import SETS, TASKS

pytestmark = pytest.mark.heavy
pytest.importorskip("metaworld")

TINY = [
    "train.steps=4",
    "train.batch_size=8",
    "train.device=cpu",
    "policy.denoiser.down_dims=[8,16]",
]


def run_all(task, episodes, folder, *settings, policy="unet_small", training=()):
    """Record, train, evaluate: the dataset and the metrics."""
    data, run = (str(folder / name) for name in ("data.zarr", "run"))
    chosen = [f"task=metaworld/{task}", *settings]
    record = [*chosen, "expert=scripted", f"episodes={episodes}", f"output={data}"]
    assert main(["record", *record]) == 0
    short = [*TINY, *training, f"policy={policy}", "+task.environment.options.max_steps=10"]
    assert main(["train", *chosen, f"dataset={data}", f"output={run}", *short]) == 0
    return EpisodeStore.open(data), evaluated(folder, episodes)


def evaluated(folder, episodes, *settings):
    """The metrics of the policy that `run_all` trained there."""
    output = f"output={folder / 'results'}"
    evaluate = [f"checkpoint={folder / 'run'}", f"episodes={episodes}", output, *settings]
    assert main(["evaluate", *evaluate]) == 0
    return json.loads((folder / "results/metrics.json").read_text())


def test_a_task_is_demonstrated_trained_on_and_evaluated(tmp_path):
    store, metrics = run_all("reach", 2, tmp_path)
    assert store["state"].shape[1:] == (39,)
    assert store["action"].shape[1:] == (4,)
    assert [each["steps"] for each in metrics["per_episode"]] == [10, 10]


def test_a_set_records_which_task_it_was_in_a_vector_and_in_words(tmp_path):
    store, metrics = run_all("mt10", 3, tmp_path)
    assert [store["task"][start].argmax() for start in store.episode_starts] == [0, 1, 2]
    words = [TASKS[name] for name in SETS["mt10"][:3]]
    assert [store.task_spans(k) for k in range(3)] == [((0, each),) for each in words]
    assert [each["task"] for each in metrics["per_episode"]] == list(SETS["mt10"][:3])
    assert {name: each["episodes"] for name, each in metrics["per_task"].items()} == {
        "pick-place": 1,
        "push": 1,
        "reach": 1,
    }
    alone = evaluated(tmp_path, 2, "environment.options.only=[window-close]", "video_episodes=0")
    assert [each["task"] for each in alone["per_episode"]] == ["window-close"] * 2
    assert list(alone["per_task"]) == ["window-close"]


def test_some_tasks_of_a_set_are_done_in_turn_by_a_policy_that_is_told_them_in_words(tmp_path):
    only = "+task.environment.options.only=[window-close,reach]"
    words = ["policy/encoder=state_text"]
    store, metrics = run_all("mt10_words", 2, tmp_path, only, training=words)
    said = [TASKS["window-close"], TASKS["reach"]]
    assert [store.task_spans(k) for k in range(2)] == [((0, each),) for each in said]
    assert sorted(metrics["per_task"]) == ["reach", "window-close"]
    assert metrics["environment_options"]["only"] == ["window-close", "reach"]


def test_pictures_of_another_task_are_recorded_and_seen(tmp_path):
    task = "task.environment.name=metaworld/push"
    store, _ = run_all("image", 2, tmp_path, task, policy="unet_image_small")
    assert store["corner2_near"].shape[1:] == (96, 96, 3)
