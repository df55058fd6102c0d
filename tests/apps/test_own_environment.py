"""docs/environments.md, run: an environment of one's own, demonstrations, training, evaluation."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.apps.commands.train import _next
from dipole.apps.main import main
from dipole.data import EpisodeWriter
from dipole.policy.training.output.logs import read_log
from dipole.policy.training.output.run_folder import RUN_FILE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/environments.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
TASK = next(text for language, text in BLOCKS if language == "yaml")
TINY = [
    "policy.denoiser.down_dims=[8,16]",
    "policy.denoiser.time_embed_dim=8",
    "train.batch_size=16",
    "train.device=cpu",
    "train.steps=4",
    "train.evaluate_every=4",
    "evaluate.episodes=2",
]


def test_the_page_s_environment_is_the_one_of_the_tests():
    tested = (ROOT / "tests/envs/reach.py").read_text().replace("  # noqa: RUF012", "")
    assert PYTHON[0].partition("class Reach")[2] == tested.partition("class Reach")[2]
    assert len(TASK.splitlines()) <= 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's files, its demonstrations, and a run."""
    folder = tmp_path_factory.mktemp("own")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.syspath_prepend(str(ROOT / "tests/envs"))
    task = folder / "my_configs/task/reach.yaml"
    task.parent.mkdir(parents=True)
    task.write_text(TASK)
    exec(compile(PYTHON[1].replace("range(50)", "range(6)"), "page", "exec"), {})
    words = ["--config-dir", "my_configs", "task=reach", "output=run", *TINY]
    assert main(["train", *words]) == 0
    yield folder
    patch.undo()


def test_the_page_s_environment_is_drawn():
    names = {"__name__": "page"}
    exec(compile(PYTHON[0].partition("gymnasium.register")[0], "page", "exec"), names)
    environment = names["Reach"](render_mode="rgb_array")
    environment.reset(seed=3)
    picture = environment.render()
    assert (picture == 255).all(-1).sum() == 96 * 96 - 2 * 64


def test_the_next_command_names_what_a_checkpoint_may_not(tmp_path):
    environment = {"name": "gym:reach:Reach-v0", "python": "/there/python"}
    (tmp_path / RUN_FILE).write_text(json.dumps({"config": {"task": {"environment": environment}}}))
    assert _next(tmp_path) == (
        f"evaluate with: dipole evaluate checkpoint={tmp_path} environment=gym:reach:Reach-v0 "
        "environment.python=/there/python"
    )


def test_a_task_of_one_s_own_is_trained_on_and_scored_by_its_success(folder):
    last = read_log(folder / "run/log.jsonl")[-1]
    assert last["evaluation/score_name"] == "success_rate"
    assert last["evaluation/score"] == last["evaluation/success_rate"]
    assert last["evaluation/return_mean"] < 0
    assert json.loads((folder / "run/best.json").read_text())["score"] >= 0


def test_it_is_evaluated_and_says_on_what_terms(folder, capsys):
    words = ["checkpoint=run", "environment=gym:reach:Reach-v0", "episodes=3", "output=found"]
    assert main(["evaluate", *words, "solver.steps=2", "device=cpu", "runtime=eager"]) == 0
    metrics = json.loads((folder / "found/metrics.json").read_text())
    assert metrics["environment"] == {"id": "gym:reach:Reach-v0", "version": "reach"}
    assert metrics["environment_settings"]["success"] == "task.success"
    assert metrics["score_name"] == "success_rate"
    assert "success rate" in capsys.readouterr().out
    written = sorted(path.name for path in (folder / "found").iterdir())
    assert written == ["episodes.csv", "episodes.mp4", "metrics.json"]


def test_what_is_given_comes_before_the_checkpoint_s_own_settings(folder):
    given = "environment={name: gym:reach:Reach-v0, max_steps: 3, score: return_mean}"
    words = ["checkpoint=run", given, "episodes=2", "output=short", "video_episodes=0"]
    assert main(["evaluate", *words, "solver.steps=2", "device=cpu", "runtime=eager"]) == 0
    metrics = json.loads((folder / "short/metrics.json").read_text())
    assert [episode["steps"] for episode in metrics["per_episode"]] == [3, 3]
    kept = metrics["environment_settings"]["observation"]
    assert kept == {"state": "robot.pose", "goal": "desired_goal"}
    assert metrics["score_name"] == "return_mean"


def test_guidance_is_said_in_the_metrics(folder):
    guided = ["output=guided", "policy/guidance=classifier_free", "train.evaluate_every=0"]
    assert main(["train", "--config-dir", "my_configs", "task=reach", *TINY[:5], *guided]) == 0
    cost = {"name": "obstacle", "centre": [0.5, 0.5], "radius": 0.1, "scale": 2}
    words = ["checkpoint=guided", "environment={name: gym:reach:Reach-v0, max_steps: 2}"]
    words += ["episodes=1", "video_episodes=0", "device=cpu", "runtime=eager", "output=g"]
    said = str(cost).replace("'", "")
    assert main(["evaluate", *words, "guidance_scale=1.5", f"costs=[{said}]"]) == 0
    metrics = json.loads((folder / "g/metrics.json").read_text())
    assert (metrics["guidance_scale"], metrics["costs"]) == (1.5, [cost])


def test_a_delay_is_charged_in_it_too(folder):
    words = ["checkpoint=run", "environment=gym:reach:Reach-v0", "episodes=1", "output=late"]
    assert main(["evaluate", *words, "delay=3", "device=cpu", "runtime=eager"]) == 0
    metrics = json.loads((folder / "late/metrics.json").read_text())
    assert (metrics["delay"], metrics["score_name"]) == (3, "success_rate")


def test_a_checkpoint_alone_imports_nothing(folder, capsys):
    assert main(["evaluate", "checkpoint=run", "output=x"]) == 2
    said = capsys.readouterr().err
    assert "imports the module 'reach'" in said
    assert "environment=gym:reach:Reach-v0" in said


def test_another_environment_that_does_not_fit_is_answered(folder, capsys):
    words = ["checkpoint=run", "episodes=1", "output=x", "device=cpu", "runtime=eager"]
    assert main(["evaluate", *words, "environment=gym:Pendulum-v1"]) == 2
    assert "actions of shape [1], and the policy's have [2]" in capsys.readouterr().err
    assert main(["evaluate", *words, "environment=gym:CartPole-v1"]) == 2
    assert "takes actions of Discrete(2)" in capsys.readouterr().err
    assert main(["evaluate", *words, "environment=pusht"]) == 2
    assert "no observation 'goal'" in capsys.readouterr().err
    assert "reach" in sys.modules


def test_a_simulator_that_is_given_by_its_name_alone_takes_settings(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task/named.yaml").write_text(
        "name: named\n"
        "environment: pusht\n"
        "dataset: null\n"
        "observation: {state: {shape: [2]}}\n"
        "action: {shape: [2]}\n"
        "window: {n_obs_steps: 2, horizon: 8, n_action_steps: 4}\n"
        "split: {val_ratio: 0.0, seed: 42, max_train: null}\n"
    )
    data, run = str(tmp_path / "d.zarr"), tmp_path / "run"
    with EpisodeWriter(data, fps=10) as writer:
        state = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
        writer.add_episode({"state": state, "action": state})
    tiny = [word for word in TINY if "evaluate" not in word]
    words = ["task=named", "environment.max_steps=9", f"dataset={data}", f"output={run}", *tiny]
    assert main(["train", "--config-dir", str(tmp_path), *words]) == 0
    task = json.loads((run / RUN_FILE).read_text())["config"]["task"]
    assert task["environment"] == {"name": "pusht", "max_steps": 9}
