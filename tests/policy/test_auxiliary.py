"""objective=auxiliary: an image encoder that learns to tell stored numbers, and its pretraining."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from auxiliary_fixture import AUXILIARY, TARGETS, configuration, silent, tensors, write
from safetensors.torch import load_file
from training_fixture import stop_at

from dipole.data import ConfigError
from dipole.policy import load_policy
from dipole.policy.checkpoint import checkpoints_of
from dipole.policy.training import Trainer
from dipole.policy.training.objectives.picture_plane import PicturePlane
from dipole.policy.training.output.logs import read_log
from dipole.policy.training.run import build_run, resume_run, start_run

FRONT = {"cameras": ["front"], "moves_with": "front"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "arm.zarr")


def objective_of(dataset, **options):
    """The objective of a new run."""
    parts = build_run(configuration(dataset, {**AUXILIARY, **options}))
    batch = parts.data.train.gather(np.arange(6))
    return parts.state.objective, tensors(batch)


def with_gradient(objective):
    return {n for n, p in objective.named_parameters() if p.grad is not None and p.grad.any()}


def files_of(run):
    """Every tensor of the newest checkpoint, by file and name."""
    return {
        f"{path.name}:{name}": tensor
        for path in sorted(checkpoints_of(run)[-1].glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def differing(one, other):
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def test_a_target_s_gradients_reach_the_encoder_and_not_the_denoiser(dataset):
    objective, batch = objective_of(dataset, policy_weight=0)
    objective(batch).total.backward()
    found = with_gradient(objective)
    assert any(name.startswith("target_heads.joints.") for name in found)
    for camera in ("front", "wrist"):
        assert f"policy.encoder.parts.cameras.encoders.{camera}.project.weight" in found
    assert not any(name.startswith("policy.head") for name in found)


def test_the_loss_is_the_policy_s_and_each_target_s_by_its_weight(dataset):
    objective, batch = objective_of(dataset, policy_weight=2.0)
    objective.total_steps = 10
    loss = objective(batch, step=4)
    assert set(loss.parts) == {"policy", "target/joints", "target/later"}
    targets = 0.5 * loss.parts["target/joints"] + loss.parts["target/later"]
    expected = (2 * loss.parts["policy"] + 0.6 * targets).detach()
    assert float(loss.total.detach()) == pytest.approx(float(expected))
    assert loss.errors == {}  # in training


def test_pictures_are_encoded_once(dataset, monkeypatch):
    objective, batch = objective_of(dataset)
    calls, forward = [], type(objective.policy.encoder).contexts
    counting = lambda self, *given: calls.append(1) or forward(self, *given)  # noqa: E731
    monkeypatch.setattr(type(objective.policy.encoder), "contexts", counting)
    objective(batch)
    assert len(calls) == 1


@pytest.mark.parametrize("differences", [False, True])
def test_features_are_those_of_each_camera_s_pictures(dataset, differences):
    """The vector is frame by frame, and within a frame camera by camera."""
    config = configuration(dataset, AUXILIARY)
    config["policy"]["encoder"]["differences"] = differences
    parts = build_run(config)
    policy = parts.state.objective.policy.eval()
    batch = tensors(parts.data.train.gather(np.arange(6)))
    features = policy.encoder.picture_features(policy.contexts(batch))
    assert policy.encoder.picture_dims == {"front": 6, "wrist": 6}
    cameras = policy.encoder.parts["cameras"]
    for name in ("front", "wrist"):
        pictures = cameras.view(name)(batch["observation"][name])
        expected = cameras.encoder(name)(pictures).unflatten(0, (6, 2))
        assert torch.allclose(features[name], expected, atol=1e-5)
        assert not torch.allclose(expected[:, 0], expected[:, 1], atol=1e-3)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [("cosine", [1, 0.5, 0, 0]), ("linear", [1, 0.5, 0, 0]), ("constant", [1, 1, 1, 1])],
)
def test_weights_fall_to_zero_over_a_share_of_the_steps(dataset, decay, expected):
    objective, _ = objective_of(dataset, decay=decay, decay_share=0.4)
    objective.total_steps = 100
    assert [objective.decay_at(n) for n in (0, 20, 40, 99)] == pytest.approx(expected, abs=1e-9)


def test_without_the_policy_s_loss_targets_keep_their_weight(dataset):
    objective, _ = objective_of(dataset, policy_weight=0)
    assert objective.decay_at(3) == 1


@pytest.mark.heavy
@pytest.mark.parametrize("clip", [None, 0.1])
def test_without_weights_training_is_behaviour_cloning_to_the_bit(tmp_path, dataset, clip):
    weightless = {name: {**table, "weight": 0} for name, table in TARGETS.items()}
    for name, objective in (
        ("plain", None),
        ("auxiliary", {**AUXILIARY, "targets": weightless}),
    ):
        config = configuration(dataset, objective, grad_clip=clip)
        start_run(config, tmp_path / name, say=silent)
    plain, auxiliary = files_of(tmp_path / "plain"), files_of(tmp_path / "auxiliary")
    assert differing(plain, {name: auxiliary[name] for name in plain}) == []


@pytest.mark.heavy
def test_a_run_resumes_with_the_bits_of_one_that_was_never_stopped(tmp_path, dataset, monkeypatch):
    config = configuration(dataset, AUXILIARY)
    start_run(config, tmp_path / "whole", say=silent)
    with monkeypatch.context() as broken:
        fit = Trainer.fit
        broken.setattr(Trainer, "fit", lambda self: broken_off(self, fit))
        start_run(config, tmp_path / "broken", say=silent)
    resume_run(tmp_path / "broken", say=silent)
    whole = files_of(tmp_path / "whole")
    assert differing(whole, files_of(tmp_path / "broken")) == []
    assert "helpers.safetensors:target_heads.joints.normalizer.scale" in whole
    assert "ema.target_heads.safetensors:later.heads.front.1.weight" in whole


def broken_off(trainer, fit):
    """Two steps are saved, a third is lost."""
    trainer.fit = fit.__get__(trainer)
    stop_at(trainer, 3)


@pytest.mark.heavy
def test_the_policy_is_saved_without_the_heads(tmp_path, dataset):
    start_run(configuration(dataset, AUXILIARY), tmp_path / "run", say=silent)
    plain = build_run(configuration(dataset)).state.policy
    assert load_policy(tmp_path / "run").state_dict().keys() == plain.state_dict().keys()
    assert not any("target" in name for name in files_of(tmp_path / "run") if "model" in name)


@pytest.mark.heavy
def test_a_pretrained_encoder_begins_a_policy(tmp_path, dataset):
    config = configuration(dataset, {**AUXILIARY, "policy_weight": 0})
    start_run(config, tmp_path / "eyes", say=silent)
    begun = build_run(config).state.policy
    trained = load_policy(tmp_path / "eyes")
    changed = {
        n for n, p in trained.named_parameters() if not torch.equal(p, begun.state_dict()[n])
    }
    assert changed
    assert all(name.startswith("encoder.parts.cameras.") for name in changed)
    init = {"from": str(tmp_path / "eyes"), "map": {"encoder": "encoder"}, "weights": "ema"}
    policy = build_run(configuration(dataset, init=init)).state.policy
    assert differing(policy.encoder.state_dict(), trained.encoder.state_dict()) == []
    saved = files_of(tmp_path / "eyes")
    assert not any(name.startswith("training.safetensors:head") for name in saved)


@pytest.mark.heavy
def test_validation_says_each_target_s_error_in_its_own_units(tmp_path, dataset, capsys):
    start_run(configuration(dataset, AUXILIARY), tmp_path / "run", say=silent)
    lines = [line for line in read_log(tmp_path / "run/log.jsonl") if "validation/loss" in line]
    for kind in ("error", "error_ema"):
        for target in ("joints", "later"):
            for unit in ("rad", "m"):
                assert 0 < lines[0][f"validation/{kind}/{target}/{unit}"] < 2
    assert "step 2 · mean absolute errors: joints " in capsys.readouterr().err
    # At step 4 of 4 they have no weight, and the heads are trained no more.
    assert not any("error" in key for key in lines[-1])


def test_a_target_that_no_row_has_leaves_the_loss_as_it_is(dataset):
    objective, batch = objective_of(dataset)
    batch["target_is_missing"] = {"joints": torch.ones(6, dtype=torch.bool)}
    batch["target_is_pad"] = {"later": torch.ones(6, 2, dtype=torch.bool)}
    loss = objective(batch)
    assert [float(loss.parts[f"target/{name}"]) for name in ("joints", "later")] == [0, 0]
    assert float(loss.total.detach()) == pytest.approx(float(loss.parts["policy"].detach()))


def test_a_target_moves_with_its_camera_s_random_cut_in_training_alone(dataset):
    """Joints are taken for a place in a picture of 2 x 1 units."""
    plain = {"joints": {"cameras": ["front"]}}
    moving = {"joints": {"cameras": ["front"], "moves_with": "front", "picture_size": [2, 1]}}
    config = configuration(dataset, {**AUXILIARY, "targets": moving})
    config["policy"]["encoder"]["crop"] = 24
    parts = build_run(config)
    objective, batch = parts.state.objective, tensors(parts.data.train.gather(np.arange(6)))
    torch.manual_seed(3)
    squared = objective(batch).parts["target/joints"]
    offset = objective.policy.encoder.picture_offsets["front"]
    assert offset.abs().max() <= 4 / 32
    assert offset.any()
    objective.planes.clear()
    moved = batch["target"]["joints"] - (offset * torch.tensor([2.0, 1.0]))[:, None]
    torch.manual_seed(3)
    assert torch.equal(
        objective({**batch, "target": {"joints": moved}}).parts["target/joints"], squared
    )
    torch.manual_seed(3)
    assert not torch.allclose(objective(batch).parts["target/joints"], squared)
    still = build_run({**config, "objective": {**AUXILIARY, "targets": plain}}).state.objective
    still.load_state_dict(objective.state_dict())
    objective.planes = {"joints": PicturePlane("front", (2, 1))}
    both = [each.eval()(batch).parts["target/joints"] for each in (objective, still)]
    assert torch.equal(*both)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": {}}, r"objective.targets is \{\}"),
        ({"targets": {"joints": {"weight": -1}}}, r"a weight is -1"),
        ({"targets": {"joints": {"cameras": ["top"]}}}, r"no camera 'top'; there are front, wrist"),
        ({"cameras": "all"}, r"cameras is 'all': choose joined, each, or a list"),
        ({"targets": {"front": {}}}, r"target 'front': it is of kind image"),
        ({"targets": None}, r"task 'arm' has no targets of its own"),
        (
            {"targets": {"joints": {"moves_with": "front"}}},
            r"'joints' moves with camera 'front' and is predicted from front, wrist",
        ),
        (
            {"targets": {"joints": {"moves_with": "frond", "cameras": ["front"]}}},
            r"no camera 'frond', did you mean 'front'",
        ),
        (
            {"targets": {"joints": {"picture_size": [1, 1]}}},
            r"'joints' has a picture_size: name the camera by moves_with",
        ),
        (
            {"targets": {"joints": {**FRONT, "picture_size": [1]}}},
            r"picture_size is \[1.*\]: the picture's width and height",
        ),
        (
            {
                "targets": {
                    "joints": {**FRONT, "of": "joints", "columns": [0], "shape": [1], "units": "m"}
                }
            },
            r"moves with camera 'front' and has shape \[1\]: places are needed",
        ),
        ({"decay": "cosin"}, r"decay is 'cosin', did you mean 'cosine'"),
        ({"decay_share": 0}, r"decay_share is 0"),
        ({"hidden": 0}, r"hidden is 0"),
        ({"policy_weight": 0, "targets": {"joints": {"weight": 0}}}, r"all targets' weights are 0"),
    ],
)
def test_what_cannot_work_is_refused(dataset, options, message):
    with pytest.raises(ConfigError, match=message):
        objective_of(dataset, **options)


def test_a_policy_without_cameras_is_refused(dataset):
    config = configuration(dataset, AUXILIARY)
    for camera in ("front", "wrist"):
        del config["task"]["observation"][camera]
    config["policy"]["encoder"] = {"name": "state"}
    with pytest.raises(ConfigError, match=r"the policy's encoder has no cameras: choose a task"):
        build_run(config)


def test_an_encoder_that_is_pretrained_is_not_evaluated(dataset):
    config = configuration(dataset, {**AUXILIARY, "policy_weight": 0}, evaluate_every=2)
    with pytest.raises(ConfigError, match=r"trains the image encoder alone, and no chunks"):
        build_run(config)


@pytest.fixture
def one_process(tmp_path):
    """torch.distributed, of this process alone."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.heavy
@pytest.mark.usefixtures("one_process")
def test_a_data_parallel_wrapper_can_stand_before_it(tmp_path, dataset, monkeypatch):
    config = configuration(dataset, {**AUXILIARY, "decay": "constant"})
    start_run(config, tmp_path / "plain", say=silent)
    fit = Trainer.fit

    def wrapped(trainer):
        trainer.objective = torch.nn.parallel.DistributedDataParallel(trainer.state.objective)
        return fit(trainer)

    monkeypatch.setattr(Trainer, "fit", wrapped)
    start_run(config, tmp_path / "wrapped", say=silent)
    assert differing(files_of(tmp_path / "plain"), files_of(tmp_path / "wrapped")) == []


def test_random_batches_have_targets_too(dataset):
    objective, _ = objective_of(dataset)
    batch = objective.fake_batch(3)
    assert batch["target"]["later"].shape == (3, 2, 2)
    assert torch.isfinite(objective(batch).total)
