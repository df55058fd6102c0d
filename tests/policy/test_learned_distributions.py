"""Training and sampling together give the distribution of the data: every process and prediction,
and every solver on each of them."""

import importlib.util
import math
from functools import cache
from pathlib import Path

import pytest
import torch

from dipole.data import Feature
from dipole.policy.context import Context, ContextSpec
from dipole.policy.diffusion.analytic import GaussianMixture
from dipole.policy.diffusion.solvers import solver_from
from dipole.policy.heads import ChunkBatch, DiffusionHead, RegressionHead, SampleRequest

spec = importlib.util.spec_from_file_location("small_mlp", Path(__file__).parent / "small_mlp.py")
small_mlp = importlib.util.module_from_spec(spec)
spec.loader.exec_module(small_mlp)

# Chunks of two steps of one number; the context says which of two mixtures they come from.
ACTION = Feature((1,), "action", normalize="limits")
DEVIATION = 0.2
MIXTURES = [
    GaussianMixture.of([[-0.8, -0.5], [0.8, -0.5]], DEVIATION),
    GaussianMixture.of([[0.0, 0.9], [-0.8, -0.3], [0.8, -0.3]], DEVIATION, [2.0, 1.0, 1.0]),
]
SPEC = ContextSpec(vector_dim=1)
NETWORK = {"name": small_mlp.NAME, "width": 128}
CASES = {  # process, prediction, spacing of its solvers
    "vp-noise": ({"name": "vp"}, "noise", "leading"),
    "vp-sample": ({"name": "vp"}, "sample", "trailing"),
    "vp-v": ({"name": "vp", "continuous": True}, "v", "trailing"),
    "flow": ({"name": "flow"}, "velocity", "uniform"),
    "edm": ({"name": "edm", "sigma_max": 20.0}, "edm", "karras"),
}
QUICK = ("flow",)  # the others run with the heavy tests
SOLVERS = {
    "ddpm": {"steps": 100},
    "ddim": {"steps": 20},
    "euler": {"steps": 20},
    "heun": {"steps": 12},
    "plms": {"steps": 20},
    "dpmpp_2m": {"steps": 12},
    "dpmpp_3m": {"steps": 16},
}
STEPS, ROWS, TESTED = 1000, 256, 1000


def batch(rows, generator):
    """(chunks [B, 2, 1], contexts): the first half of the first mixture."""
    halves = [mixture.sample(rows // 2, generator).float() for mixture in MIXTURES]
    labels = torch.tensor([[-1.0], [1.0]]).repeat_interleave(rows // 2, 0)
    return torch.cat(halves).view(-1, 2, 1), Context(labels)


@cache
def learned(case):
    torch.manual_seed(0)
    if case == "regression":
        head = RegressionHead(ACTION, 2, SPEC, NETWORK)
    else:
        process, prediction, _ = CASES[case]
        head = DiffusionHead(ACTION, 2, SPEC, NETWORK, process, prediction, clip_sample=False)
    generator = torch.Generator().manual_seed(0)

    def loss():
        chunks, context = batch(ROWS, generator)
        return head.loss(ChunkBatch(chunks), context).total

    small_mlp.train(loss, head.parameters(), 300 if case == "regression" else STEPS)
    return head.eval().requires_grad_(False)


def drawn(head, label, solver):
    generator = torch.Generator().manual_seed(1)
    request = SampleRequest(generator=generator, solver=solver)
    return head.sample(Context(torch.full((TESTED, 1), label)), request).flatten(1).double()


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=getattr(pytest.mark, "slow" if c in QUICK else "heavy")) for c in CASES],
)
def test_every_solver_recovers_what_was_learned(case):
    """Of 1000 chunks the share of a mode of one half has a standard deviation of 1.6 points."""
    head, spacing = learned(case), CASES[case][2]
    for name, options in SOLVERS.items():
        solver = solver_from({"name": name, "spacing": spacing, **options})
        for mixture, label in zip(MIXTURES, (-1.0, 1.0), strict=True):
            found = drawn(head, label, solver)
            modes = mixture.component(found)
            shares = torch.bincount(modes, minlength=len(mixture.means)) / TESTED
            right = (mixture.weights / mixture.weights.sum()).tolist()
            assert shares.tolist() == pytest.approx(right, abs=0.065), name
            distances = (found - mixture.means[modes]).norm(dim=1) / DEVIATION
            assert float((distances > 3.5).double().mean()) < 0.07, name  # 0.2 % where exact
            spread = float(distances.square().mean().sqrt()) / math.sqrt(2)
            assert spread == pytest.approx(1, abs=0.4), name


@pytest.mark.slow
def test_regression_answers_with_what_lies_between():
    found = drawn(learned("regression"), -1.0, None)
    mean = (MIXTURES[0].means * MIXTURES[0].weights[:, None]).sum(0) / MIXTURES[0].weights.sum()
    torch.testing.assert_close(found, mean.expand_as(found), rtol=0, atol=0.05)
    assert float((found - MIXTURES[0].means[0]).norm(dim=1).min()) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("case", ["flow", pytest.param("edm", marks=pytest.mark.heavy)])
def test_the_learned_density_is_that_of_the_data(case):
    """Nats a chunk of two numbers, on average over chunks of the data."""
    head, spacing, half = learned(case), CASES[case][2], 150
    chunks, context = batch(2 * half, torch.Generator().manual_seed(2))
    parts = zip(MIXTURES, chunks.flatten(1).double().split(half), strict=True)
    right = torch.cat([mixture.log_density(rows) for mixture, rows in parts])
    found = head.log_likelihood(chunks, context, steps=60, spacing=spacing)
    assert float(found.mean()) == pytest.approx(float(right.mean()), abs=0.3)
    other = Context(-context.vector)
    assert float(head.log_likelihood(chunks, other, 20, spacing).mean()) < float(found.mean()) - 2
