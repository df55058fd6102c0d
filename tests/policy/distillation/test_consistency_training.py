"""Consistency without a teacher: which levels, how often, and what they weigh."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_fixture import batch_of, drawn, method, policy_of, train

from dipole.data import ConfigError
from dipole.policy.training.objectives.distillation.methods.consistency_training import (
    ConsistencyTraining,
    normal_shares,
)


def test_levels_double_at_equal_intervals_of_the_run():
    made = method(ConsistencyTraining)
    made.total_steps = 500
    assert [made.levels(step) for step in (0, 99, 100, 250, 399, 400, 499)] == [
        *(10, 10, 20, 40, 80, 160, 160)
    ]
    with pytest.raises(ConfigError, match="first_levels is 20 and last_levels 10"):
        method(ConsistencyTraining, first_levels=20, last_levels=10)


@pytest.mark.parametrize("last", [19, 20, 150, 160, 300])
def test_the_last_number_of_levels_is_reached(last):
    made = method(ConsistencyTraining, last_levels=last)
    made.total_steps = 1000
    found = [made.levels(step) for step in range(1000)]
    assert (found[0], found[-1]) == (10, last)
    assert found == sorted(found)
    lengths = [found.count(each) for each in dict.fromkeys(found)]
    assert max(lengths) - min(lengths) < len(lengths)  # equal intervals


def test_a_share_of_the_run_learns_as_a_diffusion_policy_before():
    made = method(ConsistencyTraining, begin=0.5)
    made.total_steps = 1000
    assert [made.levels(step) for step in (0, 499, 500, 599, 600, 999)] == [10, 10, 10, 10, 20, 160]
    batch = batch_of(made, 8)
    given = made.given(batch)
    torch.manual_seed(5)
    before = made(batch, step=499).total
    torch.manual_seed(5)
    assert torch.equal(before, made.head.loss(given.chunks, given.context).total)
    torch.manual_seed(5)
    assert not torch.equal(before, made(batch, step=500).total)
    with pytest.raises(ConfigError, match=r"objective.begin is 1.0: a share of the run"):
        method(ConsistencyTraining, begin=1.0)


def test_levels_that_a_table_rounds_away_are_told_of():
    with pytest.warns(UserWarning, match="of 10 to 160 noise levels .* has 7 to 54"):
        method(ConsistencyTraining, "vp")


def test_levels_are_drawn_as_a_normal_distribution_of_log_sigma_has_them():
    shares = normal_shares(torch.tensor([torch.inf, 1.0, 0.0]), 0.0, 2.0)
    assert torch.allclose(shares, torch.ones(2))
    shares = normal_shares(torch.tensor([torch.e**2, 1.0, torch.e**-2, 0.0]), 0.0, 2.0)
    assert shares.tolist() == pytest.approx([0.6827, 0.6827, 0.3173], abs=1e-3)


def test_levels_are_those_of_the_paper_down_to_the_least_noise():
    grid, _ = method(ConsistencyTraining, "edm").grid(10)
    noise = grid.at(torch.arange(grid.steps + 1)).noise.tolist()
    assert (len(noise), noise[0], noise[-2], noise[-1]) == (11, 80.0, pytest.approx(0.002), 0.0)


@pytest.mark.filterwarnings("ignore:of 10 to 160 noise levels")
@pytest.mark.parametrize("process", ["vp", "flow", "edm"])
def test_it_learns_from_no_teacher_and_its_student_has_no_noise_to_divide_by(process):
    made = method(ConsistencyTraining, process)
    assert not hasattr(made, "teacher")
    assert type(made.head.prediction).__name__ == "PreconditionedPrediction"
    loss = made(batch_of(made, 64)).total
    loss.backward()
    assert torch.isfinite(loss)
    assert policy_of(ConsistencyTraining, process).head.solver.gamma == 1.0


@pytest.mark.heavy
@pytest.mark.parametrize("process", ["flow", "edm"])
def test_one_step_reaches_both_kinds_of_chunks(process):
    made = method(ConsistencyTraining, process, last_levels=40)
    train(made, 600)
    chunks = drawn(made).mean((1, 2))
    assert 0.3 < float((chunks > 0).float().mean()) < 0.7
    assert float((chunks.abs() - 0.6).abs().mean()) < 0.2
