"""`dipole train` on a mixture: two datasets at 10 and 50 Hz, with different cameras."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from mixture_fixture import write_fast, write_slow

from dipole.apps.compose import compose
from dipole.apps.main import main
from dipole.data import ConfigError, EpisodeWriter
from dipole.deploy.inference.process import FromCheckpoint
from dipole.deploy.types import Ticket
from dipole.policy import load_policy
from dipole.policy.checkpoint import checkpoints_of, read_config, read_tensors
from dipole.policy.diffusion.solvers import DDIM
from dipole.policy.runtimes.runnable import load_runnable
from dipole.policy.training.output.logs import read_log

TASK = """
name: mixed
environment: null
policy_hz: 10
normalizer: {normalizer}
observation:
  joints: {{shape: [2]}}
  front: {{shape: [32, 32, 3], kind: image}}
  wrist: {{shape: [32, 32, 3], kind: image}}
  force: {{shape: [1]}}
action: {{shape: [3], units: mm}}
window: {{obs_seconds: 0.2, horizon_seconds: 0.8, action_seconds: 0.4}}
split: {{val_ratio: 0.3, seed: 1, max_train: null}}
datasets:
  slow: {{path: {slow}, weight: 0.75}}
  fast:
    path: {fast}
    weight: 0.25
    observation:
      joints: {{source: qpos, columns: [1, 2]}}
      front: {{source: top}}
      wrist: null
      force: null
    action: {{shape: [2], entries: [0, 2]}}
"""
WORDS = [
    "task=mixed",
    "policy=unet_image_small",
    "policy.encoder.backbone={name: resnet, stem: patches, widths: [16, 32], blocks: [1, 1]}",
    "+policy.encoder.pooling.n_keypoints=4",
    "policy.encoder.dim=6",
    "policy.encoder.crop=null",
    "policy.encoder.camera_dropout=0.1",
    "policy.denoiser.down_dims=[8,16]",
    "policy.denoiser.time_embed_dim=8",
    "train.batch_size=8",
    "train.warmup_steps=2",
    "train.device=cpu",
    "train.amp=false",
    "train.deterministic=true",
    "train.log_every=1",
    "train.validate_every=2",
    "train.checkpoint_every=2",
    "train.steps=4",
    "train.validation_windows=16",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    slow = write_slow(folder / "slow.zarr", (20, 3, 30, 25))
    fast = write_fast(folder / "fast.zarr", (90, 110, 80))
    for normalizer in ("merged", "per_part"):
        (folder / normalizer / "task").mkdir(parents=True)
        text = TASK.format(normalizer=normalizer, slow=slow, fast=fast)
        (folder / normalizer / "task/mixed.yaml").write_text(text)
    return folder


def train(folder, output, *words, normalizer="merged"):
    config_dir = ["--config-dir", str(folder / normalizer)]
    given = {word.partition("=")[0] for word in words}
    usual = [word for word in WORDS if word.partition("=")[0] not in given]
    return main(["train", *config_dir, *usual, f"output={output}", *words])


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert train(folder, output) == 0
    return output


def assert_same_bits(one, other):
    for stem in ("model", "ema", "training"):
        ours = read_tensors(checkpoints_of(one)[-1], stem)
        theirs = read_tensors(checkpoints_of(other)[-1], stem)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_mixture_of_rates_and_cameras_trains(whole):
    lines = read_log(whole / "log.jsonl")
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3, 4]
    assert all(np.isfinite(line["validation/loss"]) for line in lines if "validation/loss" in line)
    config = read_config(checkpoints_of(whole)[-1])
    assert config["features"]["fps"] == 10
    assert config["window"] == {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4}


def test_the_checkpoint_names_every_dataset(whole, folder):
    dataset = read_config(checkpoints_of(whole)[-1])["dataset"]
    assert dataset["normalizer"] == "merged"
    slow, fast = dataset["parts"]
    assert (slow["name"], slow["weight"], slow["fps"], slow["episodes"]) == ("slow", 0.75, 10, 4)
    assert (fast["path"], fast["action_entries"]) == (str(folder / "fast.zarr"), [0, 2])
    assert len(fast["fingerprint"]) == len(slow["fingerprint"]) > 0
    assert fast["fingerprint"] != slow["fingerprint"]


def test_what_is_trained_on_is_said(folder, tmp_path, capsys):
    assert train(folder, tmp_path / "run", "train.steps=1") == 0
    said = capsys.readouterr().out
    assert (
        "data: slow, 75.0% of each batch: 3 of 4 episodes have windows, 2 to train on and 1 for "
        "validation; " in said
    )
    assert "data: fast, 25.0% of each batch: 3 of 3 episodes have windows, 2 to train on" in said
    assert "a step is 5 frames" in said


def test_resuming_a_mixture_is_exact(whole, folder, tmp_path):
    assert train(folder, tmp_path / "broken") == 0
    checkpoints_of(tmp_path / "broken")[-1].rename(tmp_path / "lost")  # as if it had died before
    assert main(["train", f"resume={tmp_path / 'broken'}"]) == 0
    assert_same_bits(whole, tmp_path / "broken")


def test_a_weight_is_a_setting(folder, tmp_path, capsys):
    words = ["task.datasets.fast.weight=0.75", "train.steps=1"]
    assert train(folder, tmp_path / "run", *words) == 0
    assert "data: fast, 50.0% of each batch" in capsys.readouterr().out


def test_streaming_a_mixture_gives_the_same_bits(whole, folder, tmp_path, capsys):
    assert train(folder, tmp_path / "run", "train.memory_limit=1KiB") == 0
    assert "data: streaming with no background workers" in capsys.readouterr().out
    assert_same_bits(whole, tmp_path / "run")


def test_resuming_with_another_second_dataset_is_refused(folder, tmp_path, capsys):
    assert train(folder, tmp_path / "run", "train.steps=1") == 0
    saved = json.loads((tmp_path / "run/run.json").read_text())
    other = write_fast(tmp_path / "fast.zarr", (90, 111, 80))
    saved["config"]["task"]["datasets"]["fast"]["path"] = str(other)
    (tmp_path / "run/run.json").write_text(json.dumps(saved))
    assert main(["train", f"resume={tmp_path / 'run'}", "train.steps=2"]) == 2
    assert f"{other} is not the dataset that" in capsys.readouterr().err


def test_a_robot_like_one_dataset_gets_its_numbers(folder, tmp_path):
    assert train(folder, tmp_path / "run", "train.steps=1", normalizer="per_part") == 0
    policies = {part: load_policy(tmp_path / "run", part=part) for part in ("slow", "fast")}
    low = {"slow": (0.0, 0.5), "fast": (1000.0, 1000.5)}
    for part, policy in policies.items():
        normalized = torch.full((1, 8, 3), -1.0)
        action = policy.unnormalize_action(normalized)[0, 0]
        assert action[[0, 2]].tolist() == pytest.approx(low[part], abs=40)
    with pytest.raises(
        ConfigError, match="say which one the robot is like by part=NAME; there are"
    ):
        load_policy(tmp_path / "run")
    with pytest.raises(ConfigError, match="no dataset 'slwo' in the mixture, did you mean 'slow'"):
        load_policy(tmp_path / "run", part="slwo")


@pytest.fixture(scope="module")
def like_parts(folder, tmp_path_factory):
    """One of state alone, for exports: each dataset writes its angle its own way."""
    paths = {}
    for name, unit, low in (("robot", 180 / np.pi, 3.0), ("other", 1.0, 0.02)):
        paths[name] = tmp_path_factory.mktemp("part") / f"{name}.zarr"
        with EpisodeWriter(paths[name], fps=10) as writer:
            for episode in range(2):
                angle = np.sin(np.arange(20) / 5 + episode) * unit
                grip = np.full(20, low) if name == "other" else low + np.sin(np.arange(20))
                writer.add_episode({"angle": angle[:, None], "action": np.stack([angle, grip], 1)})
    turn = "[{columns: [0], transform: angle_to_sin_cos, options: {degrees: true}}]"
    text = f"""
name: mixed
environment: null
normalizer: per_part
observation: {{angle: {{shape: [2], convert: {turn.replace(", options: {degrees: true}", "")}}}}}
action: {{shape: [3], convert: {turn.replace(", options: {degrees: true}", "")}}}
window: {{n_obs_steps: 2, horizon: 8, n_action_steps: 4}}
split: {{val_ratio: 0}}
datasets:
  robot: {{path: {paths["robot"]}, observation: {{angle: {{convert: {turn}}}}},
    action: {{convert: {turn}}}}}
  other: {{path: {paths["other"]}}}
"""
    home = tmp_path_factory.mktemp("like")
    (home / "task").mkdir()
    (home / "task/mixed.yaml").write_text(text)
    small = ["policy.denoiser.down_dims=[8,16]", "policy.denoiser.time_embed_dim=8"]
    settings = ["train.steps=1", "train.device=cpu", "train.batch_size=8", "train.amp=false"]
    words = ["task=mixed", "policy=unet_small", *small, *settings, f"output={home / 'run'}"]
    assert main(["train", "--config-dir", str(home), *words]) == 0
    return home / "run"


def test_a_part_has_its_own_conversions_and_what_stands_still_there(like_parts):
    degrees, radians = (load_policy(like_parts, part=name) for name in ("robot", "other"))
    noise = torch.randn(1, 8, 3, generator=torch.Generator().manual_seed(0))
    solver = DDIM(steps=2)
    one = degrees.predict({"angle": np.full((1, 2, 1), 30.0)}, noise=noise, solver=solver)
    other = radians.predict({"angle": np.full((1, 2, 1), np.pi / 6)}, noise=noise, solver=solver)
    assert one[..., 0].abs().max() > 4  # degrees
    assert other[..., 0].abs().max() < 3.2
    assert other[..., 1].numpy() == pytest.approx(0.02)  # its gripper never moved
    assert one[..., 1].std() > 0


def test_whatever_loads_a_policy_is_told_the_part(like_parts, tmp_path, capsys):
    for name in ("evaluate", "export", "serve"):
        words = ["environment=pusht"] if name == "evaluate" else []
        assert main([name, f"checkpoint={like_parts}", *words]) == 2
        assert "like by part=NAME; there are robot, other" in capsys.readouterr().err
        assert main([name, f"checkpoint={like_parts}", *words, "part=robt"]) == 2
        assert "no dataset 'robt' in the mixture, did you mean 'robot'" in capsys.readouterr().err
    terms = {"checkpoint": str(like_parts), "solver": {"name": "ddim", "steps": 2}}
    values = {**compose("deploy", [f"checkpoint={like_parts}", "part=other"]), **terms}
    spec, compute = FromCheckpoint.from_dict(values)()
    assert spec.observation == {"angle": (1,)}
    chunk = compute(Ticket(0, 0, 0.0, 0), {"angle": np.zeros((2, 1), np.float32)})["action"]
    assert chunk[:, 1] == pytest.approx(0.02)


def test_an_export_is_of_one_part(like_parts, tmp_path):
    pytest.importorskip("onnxruntime")
    words = ["to=onnx", "part=other", "solver=ddim", "solver.steps=2", f"output={tmp_path / 'e'}"]
    assert main(["export", f"checkpoint={like_parts}", *words]) == 0
    exported = load_runnable(tmp_path / "e", part="other")
    policy = load_policy(like_parts, part="other")
    noise = torch.randn(1, 8, 3, generator=torch.Generator().manual_seed(0))
    seen = {"angle": np.full((1, 2, 1), 0.5, np.float32)}
    ours = policy.predict(seen, noise=noise, solver=DDIM(steps=2))
    assert torch.allclose(exported.predict(seen, noise=noise), ours, atol=1e-4)
    with pytest.raises(ConfigError, match="part=robot: the export's numbers are those of other"):
        load_runnable(tmp_path / "e", part="robot")


def test_a_camera_that_a_dataset_lacks_needs_a_stand_in(folder, tmp_path, capsys):
    assert train(folder, tmp_path / "run", "policy.encoder.camera_dropout=0.0") == 2
    assert "is missing from a dataset of the mixture: train with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task.policy_hz=null"], "different frames per second (slow: 10.0, fast: 50.0): set"),
        (["task.policy_hz=20"], "10 frames a second and the policy 20 steps"),
        (["task.normalizer=own"], "normalizer is 'own': choose merged or per_part"),
        (["task.datasets.fast.weight=-1"], "dataset 'fast': weight -1: a part's weight is a"),
        (["dataset=other.zarr"], "has several datasets, and dataset=other.zarr is one"),
        (["task.datasets=7"], "task.datasets is 7: tables by name, or a list, are needed"),
        (["+task.datasets.a={pth: a}"], "a table with a path is needed"),
        (["+task.datasets.slow.wieght=2"], "no 'wieght', did you mean 'weight'"),
        (["+task.datasets.slow.observation={joint: null}"], "no observation 'joint'"),
        (["train.memory_limit=lots"], "train.memory_limit: 'lots' is no amount of memory"),
        (["+task.split.val_rato=1"], "did you mean 'val_ratio'"),
    ],
)
def test_what_cannot_be_mixed_says_so(folder, tmp_path, words, message, capsys):
    assert train(folder, tmp_path / "run", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
