"""Backbones of transformers, untrained or from a folder, frozen or fine-tuned."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import cameras, features, make_policy

from dipole.apps.compose import compose
from dipole.data import ConfigError, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig, load_policy
from dipole.policy.encoders.cameras.backbones.pretrained import FAMILIES, with_architecture
from dipole.policy.training import EMA, BehaviourCloning, EMAConfig, TrainConfig, TrainState
from dipole.policy.training.optimization.optimizer import (
    make_optimizer,
    make_optimizers,
    set_learning_rate,
)

transformers = pytest.importorskip("transformers")

VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
}
ARCHITECTURES = {
    "pretrained_resnet": {
        "embedding_size": 16,
        "hidden_sizes": [16, 32],
        "depths": [1, 1],
        "layer_type": "basic",
    },
    "dinov2": {**VIT, "mlp_ratio": 2},
    "clip": {**VIT, "intermediate_size": 32},
    "siglip": {**VIT, "intermediate_size": 32},
}
NAMES = sorted(FAMILIES)


def policy_of(name, size=(32, 48), pooling="mean", weights=None, **encoder):
    backbone = {"name": name, "architecture": ARCHITECTURES[name], "weights": weights}
    if weights is not None:
        del backbone["architecture"]
    wanted = features(front=size)
    return make_policy(wanted, backbone=backbone, pooling={"name": pooling}, **encoder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each family's weights in a folder of its own, as `save_pretrained` leaves them."""
    made = {}
    torch.manual_seed(1)
    for name, family in FAMILIES.items():
        config = getattr(transformers, family.config)(**ARCHITECTURES[name])
        model = getattr(transformers, family.model)(config)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        made[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(made[name])
    return made


def test_all_of_the_issue_are_there():
    assert NAMES == ["clip", "dinov2", "pretrained_resnet", "siglip"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pooling", ["mean", "pooled", "spatial_softmax"])
def test_every_backbone_sees_pictures_of_any_size_and_learns(name, pooling):
    policy = policy_of(name, pooling=pooling)
    policy.loss(policy.fake_batch(2)).backward()
    assert any(p.grad is not None for p in cameras(policy).encoder("front").backbone.parameters())
    policy.eval()
    observation = policy.fake_observation(2)
    once, again = (policy.encode(observation).vector for _ in range(2))
    assert torch.equal(once, again)


@pytest.mark.parametrize("name", NAMES)
def test_features_keep_the_plan_of_the_picture(name):
    eye = cameras(policy_of(name).eval()).encoder("front")
    seen = eye.features(torch.rand(2, 3, 32, 48))
    assert seen.features.shape[2:] == eye.backbone.map_size((32, 48)) == (4, 6)
    assert seen.features.shape[1] == eye.backbone.channels
    assert seen.pooled.shape == (2, eye.backbone.channels)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_recipe_s_learning_rate_of_the_backbone_does_not_mind_a_frozen_one(frozen):
    small = "{hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, patch_size: 14}"
    words = ["task=pusht_image", "policy=unet_image_pretrained", f"policy.encoder.frozen={frozen}"]
    config = compose("train", [*words, f"policy.encoder.backbone.architecture={small}"])
    with torch.device("meta"):
        policy = Policy(
            PolicyConfig.from_dict(config["policy"]),
            Features.from_dict(config["task"]),
            WindowSpec(**config["task"]["window"]),
        )
    train = TrainConfig.from_dict(config["train"])
    (optimizer,) = make_optimizers(BehaviourCloning(policy), train).values()
    ratios = {group["ratio"] for group in optimizer.param_groups}
    assert sorted(ratios) == pytest.approx([1.0] if frozen else [0.1, 1.0])


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_a_folder_give_what_transformers_gives(name, folders):
    policy = policy_of(name, size=(32, 32), weights=str(folders[name]))
    policy.encoder.load_weights()
    eye = cameras(policy.eval()).encoder("front")
    images = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(values)[:, None, None] for values in FAMILIES[name].statistics)
    model = getattr(transformers, FAMILIES[name].model).from_pretrained(folders[name]).eval()
    with torch.no_grad():
        expected = model(pixel_values=(images - mean) / std)
        seen = eye.features(images)
    assert torch.allclose(seen.pooled, expected.pooler_output.flatten(1), atol=1e-5)
    flat = expected.last_hidden_state
    if flat.dim() == 3:
        n_special = FAMILIES[name].n_special
        flat = flat[:, n_special:].transpose(1, 2).unflatten(2, (4, 4))
    assert torch.allclose(seen.features, flat, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_needs_no_folder(name, folders, tmp_path):
    named = {"name": name, "weights": str(folders[name])}
    policy = policy_of(name, size=(32, 32), weights=str(folders[name]))
    config = with_architecture({"encoder": {**policy.config.encoder, "backbone": named}})
    assert config["encoder"]["backbone"]["architecture"][
        "hidden_size" if name != "pretrained_resnet" else "hidden_sizes"
    ]
    full = PolicyConfig(encoder=config["encoder"], denoiser=policy.config.denoiser)
    policy = Policy(full, policy.features, policy.window)
    policy.encoder.load_weights()
    folder = TrainState.new(BehaviourCloning(policy), TrainConfig()).save(
        tmp_path, TrainConfig(), {}
    )
    text = (folder / "config.json").read_text().replace(str(folders[name]), "gone")
    (folder / "config.json").write_text(text)
    loaded = load_policy(folder, weights="raw")
    observation = loaded.fake_observation(2)
    assert torch.equal(loaded.encode(observation).vector, policy.eval().encode(observation).vector)


def test_weights_that_are_not_safetensors_or_not_there_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "dinov2", "hidden_size": 16}')
    (tmp_path / "pytorch_model.bin").write_text("a pickle, perhaps")
    policy = policy_of("dinov2", weights=str(tmp_path), size=(28, 28))
    with pytest.raises(ConfigError, match=r"cannot be read .* model\.safetensors"):
        policy.encoder.load_weights()
    with pytest.raises(ConfigError, match="'/nowhere/at/all' cannot be read"):
        policy_of("dinov2", weights="/nowhere/at/all")


def test_a_frozen_backbone_stays_as_it_is_and_the_rest_learns():
    policy = policy_of("dinov2", frozen=True).train()
    eye = cameras(policy).encoder("front")
    assert not eye.backbone.training
    policy.loss(policy.fake_batch(2)).backward()
    assert all(p.grad is None for p in eye.backbone.parameters())
    assert eye.project.weight.grad is not None
    trained = {
        p for group in make_optimizer(policy, TrainConfig()).param_groups for p in group["params"]
    }
    assert not trained & set(eye.backbone.parameters())


def test_a_part_has_a_learning_rate_of_its_own():
    policy = policy_of("dinov2")
    config = TrainConfig(learning_rate=1e-3, learning_rates={"encoder.*.backbone": 1e-5})
    optimizer = make_optimizer(policy, config)
    set_learning_rate(optimizer, 5e-4)  # halfway down the schedule
    rates = {p: round(group["lr"], 12) for group in optimizer.param_groups for p in group["params"]}
    eye = cameras(policy).encoder("front")
    assert {rates[p] for p in eye.backbone.parameters()} == {5e-6}
    others = [p for p in policy.parameters() if p not in set(eye.backbone.parameters())]
    assert {rates[p] for p in others} == {5e-4}
    with pytest.raises(ConfigError, match=r"begins with 'encodr'"):
        make_optimizer(policy, TrainConfig(learning_rates={"encodr": 1e-5}))


def test_batchnorm_becomes_a_constant_or_groupnorm_and_is_refused_otherwise(folders):
    for weights in (None, str(folders["pretrained_resnet"])):
        policy = policy_of("pretrained_resnet", size=(32, 32), weights=weights)
        EMA(policy, EMAConfig())
    cameras(policy).encoders["front"].backbone.extra = torch.nn.BatchNorm2d(4)
    with pytest.raises(ConfigError, match=r"backbone\.extra is a BatchNorm2d"):
        EMA(policy, EMAConfig())


def test_pictures_that_are_no_whole_patches_are_refused():
    with pytest.raises(ConfigError, match=r"'front': pictures of 30 x 48 .* such as 24"):
        policy_of("clip", size=(30, 48))
