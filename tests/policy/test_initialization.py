"""train.init: beginning with weights of another run."""

import copy
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import SMALL_UNET, TINY_RESNET, WINDOW, features, make_policy
from training_fixture import SMALL, make_trainer, write_dataset

from dipole.data import ConfigError
from dipole.data.core.json_files import read_json
from dipole.policy import Policy, PolicyConfig
from dipole.policy.checkpoint import checkpoints_of, read_config
from dipole.policy.training import BehaviourCloning, TrainConfig, TrainState
from dipole.policy.training.config import InitConfig
from dipole.policy.training.initialization import _same_inputs, initialize
from dipole.policy.training.run import resume_run, start_run

REGRESSION = {"head": {"name": "regression"}}
DENOISER = "head.denoiser"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "walk.zarr")


@pytest.fixture(scope="module")
def source(dataset, tmp_path_factory):
    """A run of two steps, whose policy is another by its seed."""
    run = tmp_path_factory.mktemp("source")
    trainer = make_trainer(run, dataset, policy=REGRESSION, steps=2, seed=1)
    trainer.state.policy.normalizers["action"].scale.mul_(3)
    trainer.fit()
    return trainer


@pytest.fixture
def objective(tmp_path, dataset):
    return make_trainer(tmp_path / "new", dataset, policy=REGRESSION).state.objective


def differing(module, other):
    theirs = dict(other.state_dict())
    return {name for name, t in module.state_dict().items() if not torch.equal(t, theirs[name])}


def test_a_whole_policy_is_taken_but_for_what_is_fitted_to_the_data(source, objective):
    averaged = source.state.ema.model
    assert len(differing(objective.policy, averaged)) > 50
    found = initialize(objective, InitConfig(str(source.run)))
    assert differing(objective.policy, averaged) == {"normalizers.action.scale"}
    assert found.own == ()
    assert found.summary().startswith(f"init: {len(found.taken)} of {len(found.taken)} tensors")


def test_raw_weights_and_normalisers_are_taken_where_they_are_asked_for(source, objective):
    initialize(objective, InitConfig(str(source.run), {"": ""}, "raw"))
    assert differing(objective.policy, source.state.policy) == set()


def test_a_part_is_taken_from_a_part_of_another_name(source, objective):
    inner, head = f"{DENOISER}.final", objective.policy.head
    head.add_module("branch", torch.nn.ModuleDict({"final": copy.deepcopy(head.denoiser.final)}))
    before = head.denoiser.final[1].bias.clone()
    found = initialize(objective, InitConfig(str(source.run), {"head.branch.final": inner}))
    assert found.taken["head.branch.final.1.bias"] == f"{inner}.1.bias"
    assert all(name.startswith("head.branch.final.") for name in found.taken)
    theirs = source.state.ema.model.get_submodule(inner)
    assert differing(head.branch["final"], theirs) == set()
    assert torch.equal(head.denoiser.final[1].bias, before)
    assert found.summary().endswith(f"; not taken: {DENOISER}")


EYES = {"front": (48, 48), "wrist": (32, 32)}


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    """The checkpoint of a policy with two cameras."""
    policy = make_policy(features(**EYES), crop={"front": 28})
    state = TrainState.new(BehaviourCloning(policy), TrainConfig())
    return state.save(tmp_path_factory.mktemp("eyes"), TrainConfig(), {})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"augment": {"shift": 2}, "camera_dropout": 0.1, "frozen": True}, None),
        ({"crop": {"front": 24}}, "crop is {'front': 24} here, {'front': 28} there"),
        ({"resize": 32}, "resize is 32 here, None there"),
        ({"resize": [32, 40]}, "resize is [32, 40] here, None there"),
        ({"differences": True}, "differences is True here, False there"),
        ({"wrist": (40, 32)}, "the shape of wrist is [40, 32, 3] here, [32, 32, 3] there"),
    ],
)
def test_what_the_encoder_sees_otherwise_is_said(eyes, changed, said):
    sizes = {name: changed.get(name, size) for name, size in EYES.items()}
    options = {name: value for name, value in changed.items() if name not in EYES}
    policy = make_policy(features(**sizes), **{"crop": {"front": 28}, **options})
    every = initialize(BehaviourCloning(policy), InitConfig(str(eyes), None, "raw"))
    assert every.otherwise == (() if said is None else (said,))
    line = every.summary()
    assert line.endswith(f"; the encoder sees otherwise: {said}") == (said is not None)
    head = InitConfig(str(eyes), {"head": "head"}, "raw")
    assert initialize(BehaviourCloning(policy), head).otherwise == ()


def test_a_part_that_is_named_is_compared_with_the_same_part_of_an_image_encoder(eyes):
    crop = {"crop": {"front": 28}, "differences": True}
    cameras = {"name": "cameras", "backbone": TINY_RESNET, "dim": 6, **crop}
    parts = {"eyes": cameras, "numbers": {"name": "state"}}
    config = PolicyConfig({"name": "join", "parts": parts}, SMALL_UNET)
    policy = Policy(config, features(**EYES), WINDOW)
    taken = {"encoder.parts.eyes": "encoder.parts.cameras"}
    found = initialize(BehaviourCloning(policy), InitConfig(str(eyes), taken, "raw"))
    assert found.otherwise == ("differences is True here, False there",)


def test_a_noise_process_stays_as_it_is_configured(tmp_path, dataset):
    """Its table of noise levels is saved with the weights."""
    make_trainer(tmp_path / "source", dataset, steps=1).fit()
    linear = {"process": {"name": "vp", "schedule": "linear"}}
    objective = make_trainer(tmp_path / "new", dataset, policy=linear).state.objective
    before = objective.policy.head.process.alphas_cumprod.clone()
    found = initialize(objective, InitConfig(str(tmp_path / "source"), {"head": "head"}))
    assert torch.equal(objective.policy.head.process.alphas_cumprod, before)
    assert "head.denoiser.final.1.weight" in found.taken


def test_of_two_prefixes_the_longer_one_counts(source, objective):
    prefixes = {DENOISER: DENOISER, f"{DENOISER}.final.1.bias": f"{DENOISER}.final.1.bias"}
    found = initialize(objective, InitConfig(str(source.run), prefixes))
    assert set(found.taken) == {n for n in objective.policy.state_dict() if n.startswith(DENOISER)}


@pytest.mark.parametrize(
    ("prefixes", "message"),
    [
        (
            {"normalizer": "held"},
            r"this run has nothing named 'normalizer', did you mean 'normalizers",
        ),
        ({"head": "head.denoisr"}, r"00000002 has nothing named 'head.denoisr', did you mean 'hea"),
        ({DENOISER: "normalizers"}, r"nothing in 'head.denoiser' has a counterpart in 'normal"),
        (
            {"normalizers.state": "normalizers.action"},
            r"normalizers.state.scale is \[3\] here, and normalizers.action.scale of .* is \[2\]",
        ),
    ],
)
def test_what_does_not_fit_is_named(source, objective, prefixes, message):
    with pytest.raises(ConfigError, match=message):
        initialize(objective, InitConfig(str(source.run), prefixes))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"form": "x"}, r"no train.init.form, did you mean 'from'"),
        ({"from": 3}, r"train.init.from is 3: a path or null is needed"),
        ({"from": "x", "weights": "best"}, r"train.init.weights is 'best': choose ema or raw"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_dict({"init": values})


def configuration(dataset, init):
    """What `dipole train` composes, as far as a run needs it."""
    task = {
        "name": "walk",
        "dataset": str(dataset),
        "window": {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4},
        "observation": {"state": {"shape": [3], "kind": "state", "source": "state"}},
        "action": {"shape": [2], "kind": "action"},
        "split": {"val_ratio": 0.34, "seed": 0},
    }
    train = {"steps": 2, "batch_size": 8, "device": "cpu", "deterministic": True, "init": init}
    return {
        "task": task,
        "dataset": None,
        "policy": {"denoiser": SMALL, **REGRESSION},
        "objective": {"name": "behaviour_cloning"},
        "train": {**train, "checkpoint_every": 1, "warmup_steps": 1},
        "evaluate": {},
    }


def test_a_run_records_what_it_began_with_and_needs_it_no_more(tmp_path, dataset, source):
    shutil.copytree(source.run, tmp_path / "source")
    init = {"from": str(tmp_path / "source"), "map": {DENOISER: DENOISER}, "weights": "ema"}
    said = []
    start_run(configuration(dataset, init), tmp_path / "run", say=said.append)
    assert any(line.startswith("init: ") for line in said)
    shutil.rmtree(tmp_path / "source")
    resume_run(tmp_path / "run", {"train.steps": 3}, say=said.append)
    recorded = [read_config(each)["init"] for each in checkpoints_of(tmp_path / "run")]
    manifest = read_json(checkpoints_of(source.run)[-1] / "manifest.json")
    assert len(recorded) == 3
    assert recorded[0] == recorded[1] == recorded[2]
    assert recorded[0]["sha256"] == manifest["files"]["ema.safetensors"]["sha256"]
    assert recorded[0]["map"] == {DENOISER: DENOISER}
    assert json.loads((tmp_path / "run/run.json").read_text())["config"]["train"]["init"] == init
    assert sum(line.startswith("init: ") for line in said) == 1


def test_a_run_from_before_there_were_objectives_goes_on(tmp_path, dataset):
    config = configuration(dataset, {})
    del config["objective"], config["train"]["init"]
    start_run(config, tmp_path / "run", say=lambda _: None)
    resume_run(tmp_path / "run", {"train.steps": 3}, say=lambda _: None)
    saved = read_config(checkpoints_of(tmp_path / "run")[-1])
    assert saved["objective"] == {"name": "behaviour_cloning"}
    assert "init" not in saved


def test_weights_that_read_another_further_input_are_not_taken():
    """A student of a student: its network is told a time to jump to, its teacher's a scale."""
    names = [
        f"head.denoiser.time_embedding.{part}" for part in ("mlp.0", "others.0.mlp", "others.1.mlp")
    ]
    pairs = {name: name for name in names}
    assert _same_inputs(pairs, ["target_time"], ["guidance_scale"]) == {names[0]: names[0]}
    both = ["target_time", "guidance_scale"]
    assert _same_inputs(pairs, both, both) == pairs
    assert set(_same_inputs(pairs, both, ["target_time"])) == {names[0], names[1]}
    assert set(_same_inputs(pairs, (), ())) == {names[0]}
