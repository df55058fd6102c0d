"""train.sharding=full: what one process computes, by several of which each has a share of it."""

import importlib
import json
import os
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import test_auxiliary
from ranks_fixture import (
    changed_when,
    configuration,
    ended,
    in_processes,
    silent,
    write_pictures,
)
from test_auxiliary import AUXILIARY
from test_division import adversarial  # noqa: F401  a fixture
from test_ranks import assert_like, assert_same_bits, logged, together, train, weights_of

from dipole.data.core.errors import ConfigError
from dipole.policy.checkpoint import checkpoints_of, load_policy
from dipole.policy.context import Context, ContextSpec
from dipole.policy.denoisers.cpu_unet.fast_path import use_fast_path
from dipole.policy.denoisers.dit import DiffusionTransformer
from dipole.policy.denoisers.unet1d import ConditionalUnet1D
from dipole.policy.encoders.cameras.backbones.resnet import ResNet
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.loop import Trainer
from dipole.policy.training.objective import BehaviourCloning
from dipole.policy.training.optimization.shards import gathered, local, sharded_as
from dipole.policy.training.run import start_run
from dipole.policy.training.state import TrainState

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
WHOLE, SHARDED = {"train.sharding": "none"}, {"train.sharding": "full"}
TRANSFORMER = {
    "encoder": {"name": "image", "backbone": {"name": "resnet", "widths": [16], "blocks": [1]}},
    "denoiser": {"name": "dit", "width": 16, "depth": 2, "heads": 2, "time_embed_dim": 8},
    "head": {"name": "diffusion"},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    importlib.import_module("torch.distributed.fsdp")  # once, not in each process that is forked
    importlib.import_module("torch.distributed.tensor")
    return write_pictures(tmp_path_factory.mktemp("data") / "arm.zarr")


def transformer():
    return DiffusionTransformer(
        2, 8, ContextSpec(6, 5), width=32, depth=4, heads=2, time_embed_dim=8
    )


def unet():
    return ConditionalUnet1D(2, 6, down_dims=(16, 32), n_groups=4, token_dim=5, time_embed_dim=8)


def chunk_and_context():
    tokens = Context(torch.randn(3, 6), torch.randn(3, 4, 5), torch.ones(3, 4, dtype=torch.bool))
    return torch.randn(3, 8, 2), torch.tensor([1, 5, 9]), tokens


def pictures():
    return (torch.randn(2, 3, 16, 16),)


@pytest.mark.parametrize(
    ("network", "inputs", "share"),
    [
        (transformer, chunk_and_context, 0.7),
        (unet, chunk_and_context, 0.6),
        (lambda: ResNet((16, 32), (1, 1)), pictures, 0.8),
    ],
)
def test_weights_of_a_unit_are_read_in_its_own_forward_alone(network, inputs, share):
    """Elsewhere they are not numbers here; and units are most of a network."""
    torch.manual_seed(0)
    network = network()
    use_fast_path(network, False)
    given = inputs()
    expected = output(network, given)
    units = network.sharding_units()
    assert sum(size(unit) for unit in units) > share * size(network)
    for unit in units:
        kept = [p.detach().clone() for p in unit.parameters()]
        unit.register_forward_pre_hook(lambda m, _, kept=kept: put(m, kept))
        unit.register_forward_hook(lambda m, *_: put(m, [torch.nan] * len(list(m.parameters()))))
        put(unit, [torch.nan] * len(kept))
    assert torch.equal(output(network, given), expected)


@torch.no_grad()
def output(network, given):
    found = network(*given)
    return found if isinstance(found, torch.Tensor) else found.features


@torch.no_grad()
def put(module, values):
    for parameter, value in zip(module.parameters(), values, strict=True):
        parameter.copy_(value) if isinstance(value, torch.Tensor) else parameter.fill_(value)


def size(module):
    return sum(p.numel() for p in module.parameters())


def test_a_whole_tensor_is_its_own_shard():
    tensor = torch.arange(3.0)
    assert local(tensor) is tensor
    assert sharded_as(tensor, torch.zeros(3)) is tensor
    assert gathered({"a": {"b": tensor}}, wanted=False) == {"a": {}}
    copy = gathered({"a": {"b": tensor}}, wanted=True)["a"]["b"]
    assert torch.equal(copy, tensor)
    assert copy.data_ptr() != tensor.data_ptr()


def test_another_word_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'full'"):
        TrainConfig(sharding="ful")


@forks
@pytest.mark.heavy
def test_two_sharded_ranks_are_one_process_with_the_same_batch(tmp_path, dataset):
    settings = {"accumulate": 2, "grad_clip": 0.5}
    train(tmp_path / "one", configuration(dataset, **settings))
    config = configuration(dataset, **settings, sharding="full")
    found = together(2, tmp_path / "out", lambda rank: train(tmp_path / "two", config))
    assert found == [(0, "None")] * 2
    assert_like(tmp_path / "one", tmp_path / "two")
    ours, theirs = logged(tmp_path / "one"), logged(tmp_path / "two")
    assert [x for _, x in ours] == pytest.approx([x for _, x in theirs], abs=1e-5)
    assert_close(tmp_path / "one", tmp_path / "two")


@forks
@pytest.mark.heavy
def test_a_run_goes_on_sharded_to_the_bit_and_whole_or_over_others_to_rounding(tmp_path, dataset):
    sharded = configuration(dataset, policy=TRANSFORMER, sharding="full")
    train(tmp_path / "one", configuration(dataset, policy=TRANSFORMER))
    for run in (tmp_path / "two", tmp_path / "again"):
        found = together(2, tmp_path / "out", lambda _, run=run: train(run, sharded))
        assert found == [(0, "None")] * 2
    assert_same_bits(tmp_path / "two", tmp_path / "again")
    said = json.loads((checkpoints_of(tmp_path / "two")[-1] / "training.json").read_text())
    assert (said["world_size"], said["sharding"]) == (2, "full")
    load_policy(tmp_path / "two")  # anywhere
    shutil.copytree(tmp_path / "two", tmp_path / "whole")
    for run, count, changes in (("again", 2, {}), ("whole", 1, WHOLE), ("one", 3, SHARDED)):
        shutil.rmtree(checkpoints_of(tmp_path / run)[-1])  # back to step 4
        work = partial(resume, tmp_path / run, changes)
        assert together(count, tmp_path / "out", work) == [(0, "None")] * count
    assert_same_bits(tmp_path / "two", tmp_path / "again")
    assert_close(tmp_path / "two", tmp_path / "whole")
    assert_close(tmp_path / "two", tmp_path / "one")


def resume(run, changes, _rank):
    return train(run, None, changes)


def assert_close(one, other, file=""):
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    for name in (each for each in ours if each.startswith(file)):
        tensor = ours[name]
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-4, msg=name)


@forks
@pytest.mark.heavy
@pytest.mark.parametrize("amp", [False, True], ids=["fp32", "bf16"])
def test_each_rank_has_a_share_and_the_averages_are_evaluated_whole(tmp_path, dataset, amp):
    """A transformer with pictures; in bf16 units are gathered as such."""
    config = configuration(dataset, policy=TRANSFORMER, amp=amp, steps=2, evaluate_every=2)
    seen = tmp_path / "seen.txt"

    def evaluate(_config):
        def score(policy):
            seen.write_text(f"{sum(p.numel() for p in policy.parameters())}")
            assert all(type(p) is nn.Parameter for p in policy.parameters())
            return {"score": 1.0}

        return score

    def work(rank):
        made = []
        new = TrainState.new
        with patch.object(TrainState, "new", lambda *given: made.append(new(*given)) or made[0]):
            start_run(config, tmp_path / f"{config['train'].get('sharding')}", evaluate, say=silent)
        return held(made[0])

    found = []
    for sharding in ("none", "full"):
        config["train"]["sharding"] = sharding
        texts = together(2, tmp_path / "out", work)
        assert [code for code, _ in texts] == [0, 0], texts
        found.append([json.loads(text) for _, text in texts])
    (whole, _), (first, second) = found
    # Weights and averages, then the optimiser's state.
    for kind in range(3):
        assert first[kind] + second[kind] == whole[kind]
        assert max(first[kind], second[kind]) < 0.6 * whole[kind]
    assert int(seen.read_text()) == whole[0]
    ours, theirs = logged(tmp_path / "none"), logged(tmp_path / "full")
    near = {"abs": 1e-5} if not amp else {"rel": 0.02}
    assert [x for _, x in ours] == pytest.approx([x for _, x in theirs], **near)
    assert json.loads((tmp_path / "full" / "best.json").read_text())["checkpoint"] == "00000002"


@forks
@pytest.mark.heavy
def test_an_objective_with_averages_of_its_own_is_sharded(tmp_path):
    """Auxiliary targets, which call no `forward` of the policy, nor of the averaged heads."""
    config = test_auxiliary.configuration(test_auxiliary.write(tmp_path / "arm.zarr"), AUXILIARY)
    config["train"] |= {"steps": 3, "rank_timeout": 60, "threads": 1}
    train(tmp_path / "one", config)
    config["train"]["sharding"] = "full"
    found = together(2, tmp_path / "out", lambda _: train(tmp_path / "two", config))
    assert found == [(0, "None")] * 2
    assert_like(tmp_path / "one", tmp_path / "two")
    # Gradients, by their averages: some are 0 but for rounding, by whose sign AdamW steps.
    assert_close(tmp_path / "one", tmp_path / "two", "training.safetensors")


def held(state):
    """How many numbers a process has."""
    optimizer = state.optimizers["policy"].state.values()
    averages = [entry["exp_avg"] for entry in optimizer]
    kinds = (state.policy.parameters(), state.ema.model.parameters(), averages)
    return [sum(local(tensor).numel() for tensor in each) for each in kinds]


@forks
@pytest.mark.heavy
def test_an_error_of_one_rank_between_shards_ends_all_and_all_say_it(tmp_path, dataset):
    def work(rank):
        def failing(before):
            def forward(objective, batch, *, update="policy", step=0):
                if step == 3:
                    raise ZeroDivisionError("rank one's own")
                return before(objective, batch, update=update, step=step)

            return forward

        with changed_when(rank == 1, BehaviourCloning, "forward", failing):
            train(tmp_path / "run", configuration(dataset, sharding="full"))

    (first, told), (second, own) = together(2, tmp_path / "out", work)
    assert (first, second) == (1, 1)
    assert "OtherRankError: rank 1 failed: Traceback" in told
    assert "ZeroDivisionError: rank one's own" in told
    assert own.rstrip().endswith("ZeroDivisionError: rank one's own")
    assert [path.name for path in checkpoints_of(tmp_path / "run")] == ["00000002"]


@forks
@pytest.mark.heavy
def test_a_rank_that_is_killed_between_shards_is_named(tmp_path, dataset):
    def work(rank):
        def killed(before):
            def step(trainer, batches):
                if trainer.state.step == 3:
                    time.sleep(0.5)  # the other waits for shards
                    os.kill(os.getpid(), signal.SIGKILL)
                return before(trainer, batches)

            return step

        with changed_when(rank == 1, Trainer, "_step", killed):
            train(tmp_path / "run", configuration(dataset, sharding="full"))

    found = together(2, tmp_path / "out", work)
    assert found[1][0] == -signal.SIGKILL
    assert found[0][0] == 1
    assert "rank 1 does not answer: it was killed" in found[0][1]


@forks
@pytest.mark.heavy
def test_what_cannot_be_sharded_is_refused(tmp_path, dataset, adversarial):  # noqa: F811
    def refusal(folder, **settings):
        config = configuration(dataset, sharding="full", **settings)
        found = ended(in_processes(2, lambda rank: train(folder, config), tmp_path), tmp_path)
        return found[0][1]

    assert "Adversarial cannot be sharded" in refusal(tmp_path / "a", objective=adversarial)
    assert "train.compile does not go with" in refusal(tmp_path / "b", compile=True)
    assert not (tmp_path / "a").exists()
