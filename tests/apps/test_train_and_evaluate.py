"""`dipole train` and `dipole evaluate`, end to end, on data made here and the real simulator."""

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from pushes import write_pushes

from dipole.apps.main import main
from dipole.data import EpisodeStore, EpisodeWriter
from dipole.policy.checkpoint import checkpoints_of, read_config, read_tensors
from dipole.policy.training.hardware import precision
from dipole.policy.training.output.logs import read_log
from dipole.policy.training.output.run_folder import resumed_run_folder

TINY = [
    "policy.denoiser.down_dims=[8,16]",
    "policy.denoiser.time_embed_dim=8",
    "train.batch_size=8",
    "train.device=cpu",
    "train.deterministic=true",
    "train.log_every=1",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """States and actions that Push-T could have, as a dataset of the user's own."""
    return write_pushes(tmp_path_factory.mktemp("data") / "pushes.zarr")


def train(dataset, output, *words):
    return main(["train", f"dataset={dataset}", f"output={output}", *TINY, *words])


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "first"
    words = ["train.steps=4", "train.evaluate_every=4", "evaluate.episodes=1"]
    assert train(dataset, output, *words) == 0
    return output


def test_training_leaves_checkpoints_logs_and_how_it_was_made(run, dataset):
    assert [path.name for path in checkpoints_of(run)] == ["00000004"]
    lines = read_log(run / "log.jsonl")
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3, 4]
    assert lines[-1]["evaluation/episodes"] == 1
    assert json.loads((run / "best.json").read_text())["checkpoint"] == "00000004"
    config = read_config(checkpoints_of(run)[-1])
    assert config["dataset"]["path"] == str(dataset)
    assert config["environment"]["name"] == "pusht"
    assert config["run"]["train"]["steps"] == 4


def test_evaluating_writes_metrics_video_and_picture(run, tmp_path, capsys):
    words = [f"checkpoint={run}", "episodes=3", "video_episodes=2", f"output={tmp_path}"]
    assert main(["evaluate", *words, "solver=ddim", "solver.steps=5", "workers=1"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["episodes"] == 3
    assert [episode["seed"] for episode in metrics["per_episode"]] == [0, 1, 2]
    assert metrics["solver"]["name"] == "ddim"
    assert metrics["solver"]["steps"] == 5
    assert metrics["environment"] == {"id": "pusht", "version": "gym-pusht 0.1.8"}
    assert metrics["checkpoint"].endswith("00000004")
    low, high = metrics["success_ci95"]
    assert low <= metrics["success_rate"] <= high
    low, high = metrics["max_reward_ci95"]
    assert low <= metrics["max_reward_mean"] <= high
    assert metrics["final_reward_mean"] <= metrics["max_reward_mean"]
    assert metrics["policy_ms"]["p50"] <= metrics["policy_ms"]["p99"]
    assert {"seed", "success", "max_reward", "final_reward", "steps"} <= set(
        metrics["per_episode"][0]
    )
    (video,) = tmp_path.glob("*.mp4")
    with av.open(str(video)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert sum(1 for _ in container.decode(video=0)) > 10
    (picture,) = tmp_path.glob("*.png")
    assert np.asarray(Image.open(picture)).std() > 0
    printed = capsys.readouterr().out
    assert "mean max reward" in printed
    assert str(video) in printed


def test_rate_units_and_names_go_from_task_and_dataset_into_the_checkpoint(run):
    features = read_config(checkpoints_of(run)[-1])["features"]
    assert features["fps"] == 10.0
    assert features["action"]["units"] == "px"
    assert features["action"]["names"] == ["x", "y"]
    assert features["observation"]["keypoint"]["units"] == "px"


def test_a_task_that_contradicts_its_dataset_is_refused(dataset, tmp_path, capsys):
    assert train(dataset, tmp_path / "run", "task.fps=20") == 2
    error = capsys.readouterr().err
    assert "the task says fps = 20" in error
    assert f"{dataset} was recorded at 10 frames a second" in error


def test_resuming_from_the_command_line_is_exact(dataset, tmp_path):
    assert train(dataset, tmp_path / "whole", "train.steps=6") == 0
    words = ["train.steps=6", "train.checkpoint_every=3"]
    assert train(dataset, tmp_path / "broken", *words) == 0
    newest = checkpoints_of(tmp_path / "broken")[-1]
    newest.rename(tmp_path / "lost")  # as if the machine had died before step 6
    assert main(["train", f"resume={tmp_path / 'broken'}"]) == 0
    for stem in ("model", "ema", "training"):
        ours = read_tensors(checkpoints_of(tmp_path / "whole")[-1], stem)
        theirs = read_tensors(checkpoints_of(tmp_path / "broken")[-1], stem)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_killed_before_its_first_checkpoint_resumes_from_the_start(dataset, tmp_path):
    assert train(dataset, tmp_path / "run", "train.steps=2") == 0
    checkpoints_of(tmp_path / "run")[-1].rename(tmp_path / "lost")
    assert main(["train", f"resume={tmp_path / 'run'}"]) == 0
    steps = [line["step"] for line in read_log(tmp_path / "run/log.jsonl") if "train/loss" in line]
    assert steps == [1, 2]


def test_a_resumed_run_can_be_lengthened(dataset, tmp_path):
    assert train(dataset, tmp_path / "run", "train.steps=2") == 0
    assert main(["train", f"resume={tmp_path / 'run'}", "train.steps=3"]) == 0
    assert checkpoints_of(tmp_path / "run")[-1].name == "00000003"


def test_a_run_goes_on_in_no_other_folder_than_its_own(run, tmp_path, capsys):
    words = [f"resume={run}", "train.steps=4", "train.evaluate_every=0"]
    before = (run / "log.jsonl").read_text()
    assert main(["train", *words, f"output={tmp_path / 'other'}"]) == 2
    error = capsys.readouterr().err
    assert f"output={tmp_path / 'other'}: a run goes on in its own folder, {run}" in error
    assert "copy its folder and resume the copy; or begin another run with its weights by " in error
    assert f"train.init.from={run}" in error
    assert (run / "log.jsonl").read_text() == before
    assert main(["train", *words, f"output={run.parent / '.' / run.name}/"]) == 0


def said_of(capsys):
    return capsys.readouterr().out


def test_resuming_with_fewer_steps_than_are_made_says_so(run, capsys):
    assert main(["train", f"resume={run}", "train.steps=3", "train.evaluate_every=0"]) == 0
    assert f"nothing to do: {run} is already trained for 4 steps" in said_of(capsys)


def test_resuming_with_more_steps_says_how_the_learning_rate_goes_up(dataset, tmp_path, capsys):
    output = tmp_path / "run"
    assert train(dataset, output, "train.steps=6", "train.warmup_steps=1") == 0
    assert "the learning rate" not in said_of(capsys)
    assert main(["train", f"resume={output}", "train.steps=12"]) == 0
    assert (
        "the learning rate goes up again, from 4.8e-05 to 2.9e-04: its schedule now spans 12"
        in (said_of(capsys))
    )
    assert main(["train", f"resume={output}"]) == 0  # what it was lengthened to is kept
    assert "already trained for 12 steps, and train.steps=12 asks for no more" in said_of(capsys)


def test_interpolations_are_resolved_on_resuming(dataset, tmp_path, monkeypatch):
    output = tmp_path / "run"
    assert train(dataset, output, "train.steps=1") == 0
    monkeypatch.setenv("WHERE", str(dataset))
    words = ["dataset=${oc.env:WHERE}", "train.steps=2", "task.name=${policy.name}_again"]
    assert main(["train", f"resume={output}", *words]) == 0
    config = json.loads((output / "run.json").read_text())["config"]
    assert (config["dataset"], config["task"]["name"]) == (str(dataset), "unet_small_again")


def test_a_run_that_trains_is_not_resumed_beside_it(run, capsys):
    with resumed_run_folder(run):
        assert main(["train", f"resume={run}"]) == 2
    assert "another process trains it at present" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+task.window.n_obs_step=2"], "did you mean 'n_obs_steps'"),
        (["task.window.horizon=long"], "horizon is 'long'"),
        (
            ["+task.split.val_ration=0.1"],
            "there is no task.split.val_ration, did you mean 'val_ratio'",
        ),
        (["task.split.seed=x"], "task.split.seed is 'x': a whole number is needed"),
        (["task.split=3"], "task.split is 3: settings by name are needed"),
        (["+task.splitt={}"], "there is no task.splitt, did you mean 'split'"),
        (["+train.stepps=3"], "there is no train.stepps, did you mean 'steps'"),
        (["train.accumulate=two"], "train.accumulate is 'two': a whole number is needed"),
        (["+train.ema.powr=1"], "there is no train.ema.powr, did you mean 'power'"),
        (
            ["+policy.head.solver.step=1"],
            "policy.head.solver 'ddim' has no option 'step', did you mean 'steps'",
        ),
        (["+policy.encodr={}"], "there is no policy.encodr, did you mean 'encoder'"),
    ],
)
def test_typing_errors_in_a_task_or_policy_name_the_nearest(dataset, words, said, tmp_path, capsys):
    assert train(dataset, tmp_path / "run", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert not (tmp_path / "run").exists()


def test_a_run_is_never_overwritten(run, dataset, capsys):
    before = (run / "log.jsonl").read_text()
    assert train(dataset, run, "train.steps=9") == 2
    assert "already holds a run: go on with it by `dipole train resume=" in capsys.readouterr().err
    assert (run / "log.jsonl").read_text() == before


def test_resuming_on_other_data_is_refused(run, dataset, tmp_path, capsys):
    with EpisodeWriter(tmp_path / "other.zarr", fps=10.0) as writer:
        writer.add_episode({"state": np.zeros((40, 5)), "action": np.zeros((40, 2))})
        writer.add_episode({"state": np.zeros((40, 5)), "action": np.zeros((40, 2))})
    assert main(["train", f"resume={run}", f"dataset={tmp_path / 'other.zarr'}"]) == 2
    assert "is not the dataset that" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "resume=nowhere"], "no run there"),
        (["train", "dataset=nowhere.zarr", "output=never"], "nowhere.zarr"),
        (["train", "train.device=cuda:99", "output=never"], "device=cuda:99 cannot be used"),
        (["train", "task.window.horizon=15", "output=never"], "multiple of 4"),
        (["train", "task.window.n_action_steps=16", "output=never"], "past the horizon"),
        (["train", "task.action.normalize=gaussian", "output=never"], "clip_sample"),
        (["train", "policy.head.solver.spacing=linspace", "output=never"], "leading or trailing"),
        (["train", "train.wandb=true", "output=never"], "or set train.wandb=false"),
        (["evaluate", "checkpoint=nowhere"], "no such folder"),
    ],
)
def test_what_cannot_work_says_so_and_leaves_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    monkeypatch.chdir(tmp_path)
    code = 1 if "=nowhere" in words[1] else 2  # what is not there, or a setting
    assert main(words) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_evaluating_with_more_steps_than_a_table_has_is_refused(dataset, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(dataset, run, "policy/process=vp", "train.steps=1") == 0
    assert main(["evaluate", f"checkpoint={run}", "solver.steps=200"]) == 2
    assert "the policy knows 100 noise levels" in capsys.readouterr().err


def test_without_a_simulator_the_robot_comes_next(dataset, tmp_path, capsys, monkeypatch):
    output = tmp_path / "robot"
    assert train(dataset, output, "task.environment=null", "train.steps=1") == 0
    assert f"try it with: dipole deploy checkpoint={output}" in capsys.readouterr().out
    monkeypatch.setattr(
        "dipole.deploy.evaluation.checkpoint.load_runnable", lambda *_, **__: pytest.fail("loaded")
    )
    assert main(["evaluate", f"checkpoint={output}"]) == 2
    assert "of a task without a simulator: compare its chunks with" in capsys.readouterr().err


def test_whether_bf16_is_faster_is_decided_once(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "bf16_is_faster", lambda device: True)
    output = tmp_path / "run"
    assert train(dataset, output, "train.amp=null", "train.steps=1") == 0
    monkeypatch.setattr(precision, "bf16_is_faster", lambda device: False)
    assert main(["train", f"resume={output}", "train.steps=2"]) == 0
    assert read_config(checkpoints_of(output)[-1])["train"]["amp"] is True


@pytest.mark.heavy
@pytest.mark.parametrize(
    "words",
    [
        ["hydra/launcher=joblib", "train.seed=0,1", "train.steps=1,2"],
        [
            "hydra/sweeper=optuna",
            "hydra/launcher=joblib",
            "hydra.sweeper.n_trials=4",
            "train.learning_rate=tag(log,interval(1e-5,1e-3))",
            "train.steps=2",
        ],
    ],
)
def test_a_sweep_of_four_short_trainings_says_their_losses(dataset, tmp_path, words):
    assert train(dataset, tmp_path / "sweep", "--multirun", *words) == 0
    rows = json.loads((tmp_path / "sweep/sweep.json").read_text())
    assert [row["state"] for row in rows] == ["done"] * 4
    for row in rows:
        log = read_log(tmp_path / "sweep" / str(row["job"]) / "log.jsonl")
        losses = [line["validation/loss_ema"] for line in log if "validation/loss_ema" in line]
        assert row["score"] == min(losses)
        assert row["score_name"] == "best validation loss"


@pytest.mark.heavy
@pytest.mark.slow
def test_several_runs_at_once_go_to_folders_of_their_own(dataset, tmp_path):
    words = ["train.steps=1", "train.seed=0,1", "--multirun"]
    assert train(dataset, tmp_path / "sweep", *words) == 0
    seeds = [
        read_config(checkpoints_of(tmp_path / "sweep" / str(job))[-1])["train"]["seed"]
        for job in (0, 1)
    ]
    assert seeds == [0, 1]


def test_an_expert_takes_over_from_a_policy_and_only_its_part_is_recorded(run, tmp_path):
    from dipole.envs import make_env
    from dipole.envs.contract import EnvSpec
    from dipole.envs.experts.intervention import Takeover, TakeoverSpec

    path = tmp_path / "takeover.zarr.zip"
    words = ["expert=pusht", "episodes=1", "seed=1000004", "takeover_steps=30", f"takeover={run}"]
    assert main(["record", *words, f"output={path}"]) == 0
    store = EpisodeStore.open(path)
    assert sorted(store.keys()) == ["action", "executed_action", "state"]

    environment = make_env("pusht", observation=("state", "exact_state"))
    observation, _ = environment.reset(seed=1000004)
    takeover = TakeoverSpec(str(checkpoints_of(run)[-1]), 30)
    policy, steps = Takeover(takeover, EnvSpec("pusht")).begin(1000004), 0
    while (action := policy(observation)) is not None:
        observation, *_ = environment.step(action)
        steps += 1
    assert 0 < steps <= 30
    assert store.episode_numbers()["prelude_steps"].tolist() == [steps]
    np.testing.assert_array_equal(store["state"][0], observation["state"])
