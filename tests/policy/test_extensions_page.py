"""The parts of a policy in docs/architecture.md are complete: a policy of them learns."""

import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from dipole.data import Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.core.components import DENOISERS, HEADS, PREDICTIONS, PROCESSES, SOLVERS
from dipole.policy.diffusion.denoising import denoise
from dipole.policy.diffusion.predictions import Estimate
from dipole.policy.diffusion.solvers import solver_from, table_of

PAGE = (Path(__file__).parents[2] / "docs/architecture.md").read_text()
TABLES = (PROCESSES, PREDICTIONS, SOLVERS, DENOISERS, HEADS)
NAMES = ("trigonometric", "correction", "midpoint", "perceptron", "gaussian")
FEATURES = Features({"state": Feature((2,))}, Feature((1,), kind="action"))


@pytest.fixture(autouse=True)
def page():
    """The examples, registered while a test runs."""
    section = PAGE.split("### Parts of a policy, complete")[1].split("\n### ")[0]
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(compile(block, "docs/architecture.md", "exec"), {"__name__": "example"})
    yield
    for table, name in zip(TABLES, NAMES, strict=True):
        del table._table[name]


def trained(**config):
    """On chunks that are the first number of the state, at every action."""
    torch.manual_seed(0)
    policy = Policy(PolicyConfig(**config), FEATURES, WindowSpec(1, 4, 4))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for _ in range(400):
        state = 2 * torch.rand(256, 1, 2) - 1
        batch = {"observation": {"state": state}, "action": state[:, :, :1].expand(-1, 4, 1)}
        optimizer.zero_grad()
        policy.loss(batch).backward()
        optimizer.step()
    return policy.eval()


def test_a_policy_of_the_examples_learns_and_is_drawn_from_by_the_example_s_solver():
    policy = trained(
        process={"name": "trigonometric"},
        prediction="correction",
        denoiser={"name": "perceptron"},
    )
    policy.solver = solver_from({"name": "midpoint", "steps": 5})
    state = torch.tensor([[[0.5, 0.0]], [[-0.7, 0.3]]])
    chunk = policy.predict({"state": state}, torch.Generator().manual_seed(0))
    assert torch.allclose(chunk, state[:, :, :1].expand(-1, 4, 1), atol=0.12)


def test_the_head_of_the_examples_learns():
    policy = trained(head={"name": "gaussian"}, denoiser=None)
    state = torch.tensor([[[0.5, 0.0]]])
    chunk = policy.predict({"state": state}, noise=torch.zeros(1, 4, 1))
    assert torch.allclose(chunk, torch.full((1, 4, 1), 0.5), atol=0.05)


def test_the_midpoint_rule_is_of_second_order_at_least():
    errors = [gaussian_error(steps) for steps in (8, 16, 32)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) > 1.7


def gaussian_error(steps, mean=0.3, std=0.2):
    process = PROCESSES["trigonometric"]()
    table = table_of(solver_from({"name": "midpoint", "steps": steps}), process)

    def exact(level):
        variance = (level.signal * std) ** 2 + level.noise**2

        def estimate(x):
            residual = x - level.signal * mean
            clean = mean + level.signal * std**2 / variance * residual
            return Estimate(clean, level.noise / variance * residual)

        return estimate

    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    found = denoise([exact(step.level) for step in table], x, table, lambda: None)
    return float((found - (mean + std * x)).abs().max())
