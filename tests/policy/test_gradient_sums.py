"""Gradients of several processes, summed in buckets that are sent during the backward pass."""

import os
import re
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import distributed, nn

sys.path.insert(0, str(Path(__file__).parent))
from ranks_fixture import changed_when, configuration, ended, in_processes, write_pictures
from test_division import adversarial  # noqa: F401  a fixture
from test_ranks import PATIENT, assert_same_bits, together, train
from training_fixture import SMALL

from dipole.policy.training.objective import BehaviourCloning
from dipole.policy.training.optimization import gradients
from dipole.policy.training.optimization.gradients import GradientSums
from dipole.policy.training.process import shared_memory
from dipole.policy.training.process.group import Group

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
FEW_STEPS = {
    "encoder": {"name": "image", "backbone": {"name": "resnet", "widths": [16], "blocks": [1]}},
    "denoiser": SMALL,
    "head": {"name": "diffusion", "solver": {"name": "ddim", "steps": 2}},
}
BETWEEN_MACHINES = patch.object(shared_memory, "_create", lambda size: None)


def test_alone_nothing_is_sent_and_gradients_stay():
    parameter = nn.Parameter(torch.ones(3))
    sums = GradientSums([parameter], Group(), during_backward=True)
    with sums.sending():
        (2 * parameter).sum().backward()
    sums.finish()
    assert parameter.grad.tolist() == [2, 2, 2]
    assert not parameter._post_accumulate_grad_hooks


def weights(seed):
    """Of several sizes and both precisions."""
    drawn = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 40, (int(torch.randint(1, 9, (), generator=drawn)),), generator=drawn)
    kinds = torch.rand(len(sizes), generator=drawn) < 0.2
    return [
        nn.Parameter(torch.randn(int(n), generator=drawn).to(torch.bfloat16 if k else torch.float))
        for n, k in zip(sizes, kinds, strict=True)
    ]


def losses(parameters, seed, rank, count):
    """Of several batches; each reaches some of the parameters."""
    drawn = torch.Generator().manual_seed(1000 * seed + rank)
    for _ in range(count):
        reached = torch.rand(len(parameters), generator=drawn) < 0.8
        factor = torch.randn((), generator=drawn)
        yield sum(
            (
                (p.float() * factor).sin().sum()
                for p, r in zip(parameters, reached, strict=True)
                if r
            ),
            torch.zeros((), requires_grad=True),
        )


def summed(seed, overlaps, rank):
    """Gradients by `GradientSums`, after those of this process alone."""
    parameters = weights(seed)
    sums = GradientSums(parameters, Group.current(), overlaps, size=4 * (1 + seed % 60))
    own = None
    for _step in range(2):
        *first, last = losses(parameters, seed + 7 * _step, rank, 1 + seed % 3)
        for each in first:
            each.backward()
        with sums.sending():
            last.backward()
        own = [None if p.grad is None else p.grad.clone() for p in parameters]
        sums.finish()
        found = [p.grad for p in parameters]
        for p in parameters:
            p.grad = None
    return own, found


@pytest.mark.heavy
@pytest.mark.parametrize("count", [2, 3])
def test_sums_are_those_of_all_processes_and_the_same_bits_during_and_after(tmp_path, count):
    """Of random parameters and buckets, batches before the last, and losses that do not reach
    all."""

    def work(rank):
        begun = 0
        send = gradients._send
        for seed in range(60):
            own, after = summed(seed, False, rank)
            with patch.object(gradients, "_send", wraps=send) as calls:
                _, during = summed(seed, True, rank)
            begun += calls.call_count
            every = [None] * count
            distributed.all_gather_object(every, own)
            for number, (one, other) in enumerate(zip(during, after, strict=True)):
                given = [each[number] for each in every if each[number] is not None]
                if not given:
                    assert one is None
                    assert other is None
                    continue
                assert torch.equal(one, other)
                if count == 2:
                    assert torch.equal(one, sum(given))
                else:
                    torch.testing.assert_close(one, sum(given), rtol=0.02, atol=0.02)
        return begun > 60

    assert ended(in_processes(count, work, tmp_path), tmp_path) == [(0, "True")] * count


@pytest.mark.heavy
def test_buckets_are_sent_before_the_backward_pass_ends(tmp_path):
    """The last layer's while the first one's gradient is not there."""

    def work(rank):
        layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
        parameters = list(layers.parameters())
        sums = GradientSums(parameters, Group.current(), True, size=80)
        seen = []
        parameters[0].register_hook(lambda _: seen.append(len(sums._sent)))
        with sums.sending():
            layers(torch.ones(2, 4)).sum().backward()
        at_the_end = len(sums._sent)
        sums.finish()
        return seen, at_the_end

    assert ended(in_processes(2, work, tmp_path), tmp_path) == [(0, "([2], 3)")] * 2


@pytest.mark.heavy
def test_a_gradient_that_grows_after_it_was_sent_is_an_error_of_all(tmp_path):
    def work(rank):
        parameter = nn.Parameter(torch.ones(3))
        group = Group.current()
        sums = GradientSums([parameter], group, True)
        with group.together():
            with sums.sending():
                parameter.sum().backward()
                if rank == 1:
                    parameter.sum().backward()
            sums.finish()

    found = ended(in_processes(2, work, tmp_path), tmp_path)
    assert "OtherRankError: rank 1 failed: train.overlap_gradients" in found[0][1]
    assert "ConfigError: train.overlap_gradients" in found[1][1]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("data") / "arm.zarr")


@pytest.mark.heavy
def test_a_run_of_two_updates_is_the_same_bits_whenever_gradients_are_sent(
    tmp_path,
    dataset,
    adversarial,  # noqa: F811
):
    for name in ("during", "after"):
        config = configuration(
            dataset,
            adversarial,
            FEW_STEPS,
            steps=3,
            accumulate=2,
            grad_clip=0.5,
            overlap_gradients=name == "during",
        )
        with BETWEEN_MACHINES, patch.object(gradients, "BUCKET", 4096):
            found = together(
                2, tmp_path / "out", lambda _, c=config, n=name: train(tmp_path / n, c)
            )
        assert found == [(0, "None")] * 2
    assert_same_bits(tmp_path / "during", tmp_path / "after")


class Fails(torch.autograd.Function):
    """The identity, whose backward pass calls what it was given."""

    @staticmethod
    def forward(ctx, x, call):
        ctx.call = call
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        ctx.call()
        return grad, None


def run_that(call, rank, run, dataset):
    """Of two processes on two machines; rank 1 calls `call` in the midst of a backward pass."""

    def failing(before):
        def forward(objective, batch, *, update="policy", step=0):
            if step == 3:
                layer = objective.policy.head.denoiser.final
                layer.register_forward_pre_hook(lambda _, x: (Fails.apply(x[0], call),))
                objective.policy.head.denoiser.fast_path = None
            return before(objective, batch, update=update, step=step)

        return forward

    with BETWEEN_MACHINES, changed_when(rank == 1, BehaviourCloning, "forward", failing):
        train(run, configuration(dataset))


@pytest.mark.heavy
def test_an_error_in_the_midst_of_a_backward_pass_is_that_of_all(tmp_path, dataset):
    def fail():
        raise ZeroDivisionError("rank one's own")

    began = time.monotonic()
    (first, told), (second, own) = together(
        2, tmp_path / "out", lambda rank: run_that(fail, rank, tmp_path / "run", dataset), 300.0
    )
    assert time.monotonic() < began + 200  # they would wait for 300
    assert (first, second) == (1, 1)
    assert "OtherRankError: rank 1 failed: Traceback" in told
    assert "ZeroDivisionError: rank one's own" in told
    assert own.rstrip().endswith("ZeroDivisionError: rank one's own")


@pytest.mark.heavy
@pytest.mark.parametrize(("act", "said"), [("kill", "it was killed"), ("hang", "it is at .* hang")])
def test_a_rank_that_ends_or_hangs_in_the_midst_of_a_backward_pass_is_named(
    tmp_path, dataset, act, said
):
    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    def hang():
        time.sleep(600)

    call = kill if act == "kill" else hang
    folder = tmp_path / "out"
    folder.mkdir()
    with PATIENT if act == "hang" else nullcontext():
        pids = in_processes(
            2, lambda rank: run_that(call, rank, tmp_path / "run", dataset), folder, timeout=20.0
        )
    (found,) = ended(pids[:1], folder)
    if act == "hang":
        os.kill(pids[1], signal.SIGKILL)
    os.waitpid(pids[1], 0)
    assert "LostRankError: rank 0: the other processes do not all answer" in found[1]
    assert re.search(f"rank 1 .*{said}", found[1])
