"""dipole in Python: train, evaluate and load_policy, without a word of hydra's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

import dipole
from dipole.apps.python import _joined, composed
from dipole.data import EpisodeWriter
from dipole.data.core.errors import ConfigError

README = Path(__file__).parents[2] / "README.md"
TINY = {
    "policy": {"denoiser": {"down_dims": [8, 16], "time_embed_dim": 8}},
    "train": {"steps": 2, "batch_size": 8, "device": "cpu", "log_every": 1, "warmup_steps": 1},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pushes.zarr"
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10.0) as writer:
        for length in (30, 40, 25):
            state = 256 + rng.normal(0, 8, (length, 5)).cumsum(0)
            writer.add_episode({"state": state.astype(np.float32), "action": state[:, :2]})
    return path


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "first"
    return dipole.train(TINY, task="pusht_state", dataset=dataset, output=output)


def test_importing_dipole_imports_nothing_else():
    code = (
        "import sys, dipole; from dipole import __version__\n"
        "print(sorted({'torch', 'hydra', 'numpy', 'zarr', 'dipole.apps'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_training_returns_the_run_s_folder_checkpoint_step_and_scores(run):
    assert run.checkpoint == run.output / "checkpoints/00000002"
    assert (run.step, run.steps, run.stopped) == (2, 2, None)
    assert {"train/loss", "validation/loss_ema"} <= set(run.scores)
    assert run.score == run.scores["validation/loss_ema"]
    assert run.score_name == "best validation loss"


def test_a_run_goes_on_from_python_too(run, dataset, tmp_path):
    output = tmp_path / "run"
    dipole.train(TINY, task="pusht_state", dataset=dataset, output=output)
    longer = dipole.train(resume=output, train={"steps": 3})
    assert (longer.begun, longer.step) == (2, 3)
    assert (output / "checkpoints/00000003").is_dir()


def test_evaluating_returns_the_evaluation_and_writes_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = {"episodes": 1, "seed": 3, "solver": {"name": "ddim", "steps": 2}}
    evaluation = dipole.evaluate(run.checkpoint, **words)
    assert [episode.seed for episode in evaluation.episodes] == [3]
    assert evaluation.metrics["solver"]["steps"] == 2
    assert list(tmp_path.iterdir()) == []
    dipole.evaluate(run.output, **words, video_episodes=0, output=tmp_path / "seen")
    assert (tmp_path / "seen/metrics.json").exists()


def test_an_evaluation_that_is_there_is_moved_and_where_none_can_be_is_said_first(run, tmp_path):
    words = {"episodes": 1, "solver": {"name": "ddim", "steps": 2}, "video_episodes": 0}
    for seed in (3, 4):
        dipole.evaluate(run.output, **words, seed=seed, output=tmp_path / "seen")
    for seed, place in ((3, "seen/earlier/1"), (4, "seen")):
        assert json.loads((tmp_path / place / "metrics.json").read_text())["seed"] == seed
    (tmp_path / "file").touch()
    with (
        patch("dipole.deploy.evaluation.checkpoint.evaluate_checkpoint") as evaluated,
        pytest.raises(ConfigError, match="nothing can be written there"),
    ):
        dipole.evaluate(run.output, **words, output=tmp_path / "file/inside")
    evaluated.assert_not_called()


def test_aspects_without_a_simulator_need_no_more_than_to_be_asked_for(run, dataset, tmp_path):
    output = tmp_path / "alone"
    words = {"task": ["pusht_state", {"environment": None}], "dataset": dataset, "output": output}
    dipole.train({**TINY, "train": {**TINY["train"], "steps": 1}}, **words)
    few = {"aspects_observations": 4, "aspects_samples": 2, "aspects_likelihood": 0}
    found = dipole.evaluate(output, aspects=True, solver={"name": "ddim", "steps": 2}, **few)
    assert found.metrics["aspects"]["energy_score"] > 0
    assert found.episodes == []


def test_mappings_of_one_name_are_joined_and_what_is_given_later_wins():
    below = {"train": {"steps": 5, "ema": {"power": 0.5}}, "policy": "unet", "task": {"name": "a"}}
    above = {"train": {"seed": 1, "ema": {"power": 0.6}}, "policy": {"name": "mine"}}
    joined = {"train": {"steps": 5, "seed": 1, "ema": {"power": 0.6}}, "policy": {"name": "mine"}}
    assert _joined(below, above) == joined | {"task": {"name": "a"}}
    whole = {"name": "b", "observation": {}}
    assert _joined(below, {"task": whole})["task"] == whole
    assert below["train"] == {"steps": 5, "ema": {"power": 0.5}}


def test_a_loaded_policy_predicts_chunks(run):
    policy = dipole.load_policy(run.output)
    assert policy.predict(policy.fake_observation(batch_size=3)).shape == (3, 16, 2)


def test_choices_and_values_are_composed_as_on_the_command_line():
    config = composed("train", {"policy": "unet", "train": {"steps": 5}, "output": Path("a")})
    assert (config["policy"]["name"], config["train"]["batch_size"]) == ("unet", 256)
    assert (config["train"]["steps"], config["output"]) == (5, "a")
    assert config["overrides"] == {"policy": "unet", "train.steps": 5, "output": "a"}


def test_a_choice_may_be_followed_by_what_differs():
    config = composed("train", {"policy": ["unet", {"denoiser": {"kernel_size": 3}}]})
    assert config["policy"]["denoiser"]["kernel_size"] == 3
    assert config["policy"]["denoiser"]["down_dims"] == [256, 512, 1024]


def test_a_task_of_one_s_own_is_taken_whole():
    mine = {"name": "mine", "observation": {"a": {"shape": [1]}}, "action": {"shape": [1]}}
    assert composed("train", {"task": mine})["task"] == mine


def test_a_folder_of_choices_of_one_s_own(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task/mine.yaml").write_text("name: mine\n")
    assert composed("train", {"task": "mine"}, tmp_path)["task"] == {"name": "mine"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"polcy": "unet"}, "unknown setting 'polcy', did you mean 'policy'"),
        ({"policy": "unet_smal"}, "did you mean 'unet_small'"),
        ({"train": {"stesp": 3}}, "unknown setting 'train.stesp', did you mean 'train.steps'"),
    ],
)
def test_what_there_is_not_is_answered_with_the_nearest(settings, said):
    with pytest.raises(ConfigError, match=said):
        dipole.train(**settings)


def test_the_readme_s_lines_run(dataset, tmp_path, monkeypatch):
    (block,) = re.findall(r"## In Python\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 6
    small = (
        block.replace('"runs/python"', f'"{tmp_path / "first"}"')
        .replace(
            'train={"steps": 200}',
            f"train={TINY['train']}, dataset={str(dataset)!r}",
        )
        .replace('policy="unet_small"', f'policy=["unet_small", {TINY["policy"]}]')
    )
    assert small.count(str(tmp_path)) == 1
    values = {}
    exec(small.replace("episodes=50", "episodes=1"), values)
    assert 0 <= values["evaluation"].metrics["success_rate"] <= 1
    assert values["chunk"].shape == (1, 16, 2)


def test_on_a_robot_s_computer_the_import_says_what_to_do(tmp_path):
    """It has dipole-client: this file and no dipole.apps."""
    root = Path(dipole.__file__).resolve()
    (tmp_path / "dipole").mkdir()
    (tmp_path / "dipole/__init__.py").write_text(root.read_text())
    done = subprocess.run(
        [sys.executable, "-S", "-c", "from dipole import train"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "dipole.train is not part of dipole-client" in done.stderr
