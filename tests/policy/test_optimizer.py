"""Learning rates and weight decays of parameters, and the numbers of the published recipe."""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import make_trainer, write_dataset

from dipole.data import ConfigError
from dipole.policy.training import TrainConfig
from dipole.policy.training.optimization.adamw import AdamW
from dipole.policy.training.optimization.optimizer import learning_rate, make_optimizer
from dipole.policy.training.output.logs import read_log

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "walk.zarr")


@pytest.mark.parametrize(
    ("options", "weights", "losses"),
    [
        (
            {},
            [191.986193095, 1571.944584901, 371.136014855],
            [1.5545605421, 1.3474264145, 1.4103295803],
        ),
        (
            {"accumulate": 3, "batch_size": 4, "grad_clip": 1.0},
            [192.316736984, 1571.948818337, 371.133266078],
            [1.5276138783, 1.2690629959, 1.3135721684],
        ),
        (
            {"learning_rates": {"head.denoiser.final": 2e-3}},
            [191.967592522, 1571.930441758, 371.121096002],
            [1.5545605421, 1.3474264145, 1.3939814568],
        ),
    ],
)
def test_three_steps_give_the_numbers_that_they_always_gave(
    tmp_path, dataset, options, weights, losses
):
    """Of the averaged weights: their sum, that of their magnitudes, that of their squares."""
    trainer = make_trainer(tmp_path, dataset, steps=3, log_every=1, **options)
    trainer.fit()
    every = torch.cat([p.flatten().double() for p in trainer.state.ema.model.parameters()])
    found = [float(every.sum()), float(every.abs().sum()), float(every.square().sum())]
    assert found == pytest.approx(weights, rel=1e-6)
    lines = [line for line in read_log(tmp_path / "log.jsonl") if "train/loss" in line]
    assert [line["train/loss"] for line in lines] == pytest.approx(losses, rel=1e-6)


def test_the_defaults_are_those_of_the_configuration():
    written = yaml.safe_load((CONFIGS / "recipe/base.yaml").read_text())
    # YAML takes 1e-4 for a text.
    numbers = {k: float(v) for k, v in written.items() if isinstance(v, str) and "e-" in v}
    assert TrainConfig.from_dict({**written, **numbers}) == TrainConfig()


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))


def groups_of(**settings):
    """{(share of the learning rate, weight decay): names}."""
    network = Network()
    names = {parameter: name for name, parameter in network.named_parameters()}
    optimizer = make_optimizer(network, TrainConfig(**settings))
    return {
        (group["ratio"], group["weight_decay"]): [names[p] for p in group["params"]]
        for group in optimizer.param_groups
    }


def test_the_published_recipe_decays_everything_alike():
    assert [(key, len(names)) for key, names in groups_of().items()] == [((1.0, 1e-6), 6)]


def test_parts_have_weight_decays_and_learning_rates_of_their_own():
    found = groups_of(
        weight_decays={"encoder": 0.0, "head.0.weight": 0.5}, learning_rates={"head": 5e-5}
    )
    assert found == {
        (1.0, 0.0): ["encoder.weight", "encoder.bias"],
        (0.5, 0.5): ["head.0.weight"],
        (0.5, 1e-6): ["head.0.bias", "head.1.weight", "head.1.bias"],
    }


def test_norms_and_biases_can_go_without_decay():
    found = groups_of(weight_decay=0.1, decay_norms_and_biases=False, weight_decays={"head.1": 0.2})
    assert found == {
        (1.0, 0.1): ["encoder.weight", "head.0.weight"],
        (1.0, 0.0): ["encoder.bias", "head.0.bias"],
        (1.0, 0.2): ["head.1.weight", "head.1.bias"],
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decays": {"encodr": 0.0}}, r"train.weight_decays: .*'encodr', did you mean 'enc"),
        ({"weight_decays": {"encoder": -1.0}}, r"train.weight_decays: encoder has -1.0"),
        ({"weight_decay": -1.0}, r"weight_decay has -1.0: it must be 0 or more"),
    ],
)
def test_weight_decays_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        groups_of(**settings)


def test_fused_updates_are_given_weights_in_the_order_of_memory(monkeypatch):
    """They copy what is not contiguous, there and back: that took as long as six updates."""
    drawn = [torch.randn(5, 3, 4), torch.randn(7), torch.randn(6, 2)]
    seen, fused = [], torch._fused_adamw_

    def spy(*lists, **options):
        seen.append([each.is_contiguous() for given in lists for each in given])
        return fused(*lists, **options)

    def updated(optimizer_class):
        parameters = [nn.Parameter(each.clone()) for each in drawn]
        parameters[0] = nn.Parameter(drawn[0].clone().permute(2, 1, 0))
        optimizer = optimizer_class(parameters, lr=0.1, fused=True)
        for step in range(3):
            for parameter in parameters:
                parameter.grad = torch.cos(parameter.detach() + step)
            optimizer.step()
        assert optimizer.state[parameters[0]]["exp_avg"].shape == (4, 3, 5)
        return parameters

    expected = updated(torch.optim.AdamW)
    monkeypatch.setattr(torch, "_fused_adamw_", spy)
    found = updated(AdamW)
    assert len(seen) == 3
    assert all(map(all, seen))
    assert all(map(torch.equal, found, expected))


def test_gradients_in_another_order_of_memory_are_copied_and_not_scrambled():
    drawn = torch.randn(5, 3, 4)

    def updated(optimizer_class):
        parameter = nn.Parameter(drawn.clone().permute(2, 1, 0))
        optimizer = optimizer_class([parameter], lr=0.1, fused=True)
        parameter.grad = torch.arange(60.0).view(4, 3, 5)
        optimizer.step()
        return parameter

    assert torch.equal(updated(AdamW), updated(torch.optim.AdamW))


def test_the_learning_rate_rises_evenly_and_falls_along_half_a_cosine():
    config = TrainConfig(steps=10, warmup_steps=2, learning_rate=1.0)
    found = [learning_rate(step, config) for step in (0, 1, 2, 6, 10, 11)]
    assert found == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0, 0.0])
