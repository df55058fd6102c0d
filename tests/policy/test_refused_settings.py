"""Settings that cannot work say which one, its value, and what is needed, before anything runs."""

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from test_policy import SMALL, make_policy

from dipole.data import CheckpointError, ConfigError
from dipole.policy.config import PolicyConfig, unused_parts
from dipole.policy.diffusion.costs import CostTerm, Obstacle
from dipole.policy.training import TrainConfig
from dipole.policy.training.config import InitConfig
from dipole.policy.training.initialization import initialize
from dipole.policy.training.objective import build_objective
from dipole.policy.training.storage.changes import changed

DIT = {"name": "dit", "width": 16, "depth": 1, "heads": 2, "time_embed_dim": 8}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"process": {"name": "edm", "sigma_min": "a"}},
            "option 'sigma_min' of process 'edm' is 'a': a number is needed",
        ),
        (
            {"process": {"name": "edm", "sigma_max": True}},
            "option 'sigma_max' of process 'edm' is True: a number is needed",
        ),
        ({"process": {"name": "edm", "sigma_max": math.inf}}, "sigma_max inf: .*both finite"),
        ({"process": {"name": "edm", "sigma_std": math.inf}}, "sigma_std is inf"),
        ({"process": {"name": "edm", "sigma_mean": math.nan}}, "sigma_mean is nan"),
        (
            {"process": {"name": "vp", "continuous": "maybe"}},
            "option 'continuous' of process 'vp' is 'maybe': true or false is needed",
        ),
        (
            {"process": {"name": "vp", "num_train_timesteps": 10.5}},
            "option 'num_train_timesteps' of process 'vp' is 10.5: a whole number is needed",
        ),
        (
            {"process": {"name": "vp", "schedule": "linear", "beta_end": 2.0}},
            "beta_start is 0.0001 and beta_end 2.0: 0 < beta_start <= beta_end < 1 is needed",
        ),
        ({"process": {"name": "vp", "beta_start": -0.1}}, "beta_start is -0.1"),
        ({"process": {"name": "vp", "beta_start": 0.5, "beta_end": 0.1}}, "beta_start is 0.5"),
        ({"process": {"name": "flow", "logit_mean": math.inf}}, "logit_mean is inf"),
        ({"process": {"name": "flow", "beta_a": math.nan}}, "beta_a is nan: it must be positive"),
        (
            {"prediction": {"name": "noise", "sigma_data": 1.0}},
            "prediction 'noise' has no option 'sigma_data'. Known: none",
        ),
        (
            {"head": {"name": "diffusion", "solver": {"name": "ddpm", "eta": 0.5}}},
            "policy.head.solver 'ddpm' has no option 'eta'. Known: steps, spacing",
        ),
        (
            {"head": {"name": "diffusion", "clip_sample": "yes"}},
            "option 'clip_sample' of head 'diffusion' is 'yes': true or false is needed",
        ),
        (
            {"denoiser": {**SMALL, "down_dims": "8,16"}},
            "option 'down_dims' of denoiser 'unet1d' is '8,16': a list of whole numbers is needed",
        ),
        (
            {"denoiser": {**SMALL, "down_dims": [-8, 16]}},
            "each has to be positive",
        ),
        ({"denoiser": {**SMALL, "n_groups": 0}}, "n_groups is 0: at least one"),
        ({"denoiser": {**SMALL, "kernel_size": -1}}, "kernel_size is -1: at least one"),
        ({"denoiser": None}, "head 'diffusion' needs 'denoiser': give it a value"),
        ({"denoiser": {**DIT, "mlp_ratio": 0.0}}, "mlp_ratio is 0.0: a hidden layer"),
        ({"denoiser": {**DIT, "mlp_ratio": math.nan}}, "mlp_ratio is nan"),
        ({"denoiser": {**DIT, "width": 0}}, "width is 0"),
        ({"denoiser": {**DIT, "down_dims": [8]}}, "denoiser 'dit' has no option 'down_dims'"),
        ({"guidance": {"parts": "label"}}, "policy.guidance.parts is 'label': a list of texts"),
        ({"guidance": {"parts": []}}, "policy.guidance.parts is empty"),
        ({"guidance": {"parts": ["txt"]}}, "no part 'txt'; it has observation"),
        ({"guidance": {"passes": "one"}}, "passes is 'one'; known: batched, two"),
        (
            {"guidance": {"dropout": 0.1}, "head": {"name": "regression"}},
            "policy.guidance is set, and the policy's head 'regression' draws no chunks",
        ),
    ],
)
def test_a_policy_that_cannot_work_is_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        make_policy(**config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grad_clip": -1.0}, "train.grad_clip is -1.0: it must be positive, or null"),
        ({"grad_clip": 0.0}, "train.grad_clip is 0.0"),
        ({"betas": (0.9, 1.5)}, r"train.betas is \[0.9, 1.5\]: each must be at least 0 and below"),
        ({"eps": -1e-8}, "train.eps is -1e-08: it must be positive"),
        ({"learning_rate": math.nan}, "train.learning_rate is nan"),
        ({"learning_rates": {"head": math.inf}}, "train.learning_rates: head has inf"),
        ({"weight_decay": math.nan}, "weight_decay has nan"),
        ({"seed": -1}, "train.seed is -1: it must not be negative"),
        ({"workers": -1}, "train.workers is -1: it must not be negative"),
        ({"ema": {"power": -1.0}}, "train.ema.power is -1.0: it must be 0 or more"),
        ({"ema": {"max_decay": 2.0}}, "train.ema.max_decay is 2.0: it lies between 0 and 1"),
    ],
)
def test_training_that_cannot_work_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_dict(settings)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"noise": torch.zeros(1, 4, 2)}, r"noise has shape \[1, 4, 2\]: \[1, 8, 2\] is needed"),
        ({"noise": torch.zeros(2, 8, 2)}, r"noise has shape \[2, 8, 2\]"),
        ({"init": (torch.zeros(1, 4, 2), 0.5)}, r"init has shape \[1, 4, 2\]"),
        ({"solver": "ddim"}, "solver is 'ddim': a Solver is needed"),
        (
            {"costs": [CostTerm(Obstacle((1.0, 2.0, 3.0), 1.0))]},
            r"centre \[1.0, 2.0, 3.0\] from number 0 on, but an action has 2 numbers",
        ),
    ],
)
def test_a_chunk_that_cannot_be_drawn_is_refused(asked, message):
    policy = make_policy()
    with pytest.raises(ConfigError, match=message):
        policy.predict(policy.fake_observation(1), **asked)


def test_what_is_no_solver_is_not_set():
    with pytest.raises(ConfigError, match="a Solver is needed"):
        make_policy().solver = {}


def test_a_cost_that_lacks_an_option_names_it():
    with pytest.raises(ConfigError, match="cost 'obstacle' needs 'centre': give it a value"):
        CostTerm.from_dict({"name": "obstacle", "radius": 3.0})


def test_a_resumed_run_takes_no_initial_weights():
    with pytest.raises(ConfigError, match=r"train.init.from is of new runs"):
        changed({"train": {"init": {"from": None}}}, {"train.init.from": "runs/other"})


RUN = {
    "dataset": "walk.zarr",
    "task": {
        "environment": {"name": "fork"},
        "datasets": {"lab": {"path": "lab.zarr", "weight": 0.3}},
        "observation": {"state": {"normalize": "limits"}},
        "window": {"horizon": 16, "n_action_steps": 8},
        "split": {"val_ratio": 0.02, "seed": 42},
    },
    "policy": {
        "process": {"name": "flow"},
        "prediction": {"name": "velocity"},
        "head": {"name": "diffusion", "clip_sample": True, "solver": {"name": "ddim", "steps": 10}},
        "guidance": {"dropout": 0.1, "scale": 1.0},
    },
    "objective": {"name": "reflow", "teacher": "runs/teacher", "steps": 10},
    "train": {"steps": 4, "ema": {"power": 0.75}, "init": {"from": None}},
    "evaluate": {"episodes": 50},
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task.split.seed", 7),
        ("task.split.val_ratio", 0.5),
        ("task.split.max_train", 3),
        ("task.window.horizon", 8),
        ("task.observation.state.normalize", "gaussian"),
        ("task.datasets.lab.weight", 0.9),
        ("policy.prediction.name", "noise"),
        ("policy.process", {"name": "edm"}),
        ("policy.process.name", "edm"),
        ("policy.process.logit_mean", 1.0),
        ("policy.head.clip_sample", False),
        ("policy.guidance.dropout", 0.5),
        ("objective.steps", 20),
        ("train", {"steps": 8}),
    ],
)
def test_what_would_make_a_resumed_run_another_policys_is_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key}=.*goes on with the policy that it began with"):
        changed(RUN, {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.steps", 8),
        ("train.ema.power", 0.5),
        ("train.ema", {"power": 0.5}),
        ("train.learning_rates", {"head": 1e-5}),
        ("evaluate.episodes", 10),
        ("dataset", "moved.zarr"),
        ("task.dataset", "moved.zarr"),
        ("task.datasets.lab.path", "moved.zarr"),
        ("task.environment.options", {"wind": 1.0}),
        ("task.window.n_action_steps", 4),
        ("policy.head.solver.steps", 2),
        ("policy.head.solver", {"name": "euler", "steps": 2}),
        ("policy.guidance.scale", 2.0),
        ("objective.teacher", "moved/teacher"),
        ("task.split.seed", 42),  # as it is
        ("policy.process", {"name": "flow"}),
    ],
)
def test_what_leaves_a_resumed_run_its_policy_may_change(key, value):
    found = changed(RUN, {key: value})
    for part in key.split("."):
        found = found[part]
    assert found == value


def test_initial_weights_from_a_folder_that_is_none_name_the_setting(tmp_path):
    objective = build_objective(None, make_policy())
    with pytest.raises(CheckpointError, match=r"train.init.from: .*nothing: no such folder"):
        initialize(objective, InitConfig(str(tmp_path / "nothing")))


def test_a_head_is_built_from_the_parts_that_it_has():
    assert unused_parts({"name": "diffusion"}) == []
    assert unused_parts({"name": "regression"}) == ["process", "prediction"]
    config = PolicyConfig(denoiser=SMALL, process={"name": "edm"}, head={"name": "regression"})
    assert config.head_parts() == {"denoiser": SMALL}
