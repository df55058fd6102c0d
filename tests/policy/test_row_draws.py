"""Random numbers and means of a batch's rows, whichever processes compute them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))
from ranks_fixture import configuration, write_pictures

from dipole.policy.core.row_draws import RowDraws, mean_divisor, no_draws, same_for_all_rows
from dipole.policy.diffusion.processes import Flow
from dipole.policy.training.optimization.gradients import buckets
from dipole.policy.training.run import build_run

KINDS = {
    "rand": lambda n: torch.rand(n, 3),
    "rand of a tuple": lambda n: torch.rand((n, 3)),
    "randn": lambda n: torch.randn(size=(n,)),
    "randint": lambda n: torch.randint(50, (n,)),
    "randint from": lambda n: torch.randint(5, 50, (n, 2), device="cpu"),
    "like": lambda n: torch.randn_like(torch.zeros(n, 2)),
    "like integers": lambda n: torch.randint_like(torch.zeros(n, 2), 9),
    "in place": lambda n: torch.zeros(n).uniform_(2, 3),
    "bernoulli": lambda n: torch.zeros(n, 4).bernoulli_(0.5),
    "frames": lambda n: torch.rand(3 * n, 2),
    "gamma": lambda n: torch._standard_gamma(torch.full((2 * n, 3), 1.5)),
    "times near noise": lambda n: Flow("beta").sample_times((n,), "cpu"),
    "dropout": lambda n: F.dropout(torch.ones(n, 5), 0.4),
    "channels last": lambda n: torch.rand_like(
        torch.zeros(n, 2, 3, 4).to(memory_format=torch.channels_last)
    ),
}
SAME = {
    "a scalar": lambda n: torch.rand(()),
    "another size": lambda n: torch.rand(7),
    "a permutation": lambda n: torch.randperm(9),
}


def drawn(kinds, rank, ranks, total=8, seed=5):
    with RowDraws(rank, ranks, total, seed, lambda count: count) as rows:
        return {name: draw(rows.rows) for name, draw in kinds.items()}


def test_what_draws_nothing_is_not_looked_at():
    with RowDraws(0, 2, 8, 5, lambda count: count) as rows:
        with no_draws():
            assert rows not in torch.overrides._get_current_function_mode_stack()
        assert rows in torch.overrides._get_current_function_mode_stack()
    with no_draws():  # alone
        pass


@pytest.mark.parametrize(("ranks", "total"), [(2, 8), (2, 5), (4, 8)])
def test_rows_have_the_numbers_that_they_have_in_one_process(ranks, total):
    kinds = KINDS | SAME
    torch.manual_seed(5)
    whole = {name: draw(total) for name, draw in kinds.items()}
    for rank in range(ranks):
        for name, own in drawn(kinds, rank, ranks, total).items():
            if name in SAME:
                expected = whole[name]
            else:
                by_row = whole[name].view(total, -1, *whole[name].shape[1:])
                expected = by_row[rank::ranks].reshape(own.shape)
            assert torch.equal(own, expected), name


def test_what_is_of_no_row_is_marked():
    def draw(n):
        with same_for_all_rows():
            return torch.rand(8)

    assert torch.equal(*(drawn({"field": draw}, rank, 2, total=4)["field"] for rank in (0, 1)))
    assert torch.equal(drawn({"field": draw}, 0, 1)["field"], draw_alone(8))


def draw_alone(n, seed=5):
    torch.manual_seed(seed)
    return torch.rand(n)


def test_a_generator_of_one_s_own_is_left_alone():
    def draw(n):
        return torch.rand(n, generator=torch.Generator().manual_seed(3))

    first, second = (drawn({"own": draw}, rank, 2)["own"] for rank in (0, 1))
    assert torch.equal(first, second)


def test_a_mean_alone_is_over_what_counts():
    assert mean_divisor(torch.tensor(0)) == 1
    assert mean_divisor(torch.tensor(6)) == 6


@pytest.mark.parametrize("total", [5, pytest.param(6, marks=pytest.mark.heavy)])
def test_losses_and_gradients_of_all_rows_are_one_process_s(tmp_path, total):
    """A policy in which everything draws, and a loss that does not count everything."""
    config = configuration(write_pictures(tmp_path / "arm.zarr"))
    parts = build_run(config)
    objective = parts.state.objective
    batch = tensors(parts.data.train.gather(np.arange(total)))
    counts = []
    with RowDraws(0, 1, total, 5, lambda count: counts.append(count) or count):
        whole, gradient = differentiated(objective, batch, 1.0)
    torch.manual_seed(5)
    alone, _ = differentiated(objective, batch, 1.0)
    assert float(alone) == pytest.approx(float(whole), rel=1e-6)
    losses, gradients = 0.0, 0.0
    for rank in (0, 1):
        own = {name: rows_of(value, rank) for name, value in batch.items()}
        with RowDraws(rank, 2, total, 5, lambda count: counts[0]) as rows:
            loss, each = differentiated(objective, own, rows.rows / total)
        losses, gradients = losses + loss, gradients + each
    assert float(losses) == pytest.approx(float(whole), rel=1e-5)
    assert torch.allclose(gradients, gradient, atol=1e-6 * float(gradient.abs().max()))


def differentiated(objective, batch, weight):
    objective.zero_grad()
    loss = objective(batch).total * weight
    loss.backward()
    found = [p.grad.flatten() for p in objective.parameters() if p.grad is not None]
    return loss.detach(), torch.cat(found)


def rows_of(value, rank):
    if isinstance(value, dict):
        return {name: rows_of(one, rank) for name, one in value.items()}
    return value[rank::2]


def tensors(batch):
    return {
        name: tensors(one) if isinstance(one, dict) else torch.as_tensor(one)
        for name, one in batch.items()
    }


def test_gradients_are_sent_in_order_in_buckets_of_one_dtype():
    sizes = [(3, torch.float32), (5, torch.float32), (2, torch.float32), (1, torch.bfloat16)]
    found = buckets([torch.zeros(n, dtype=dtype) for n, dtype in sizes], size=20)
    assert [[each.numel() for each in bucket] for bucket in found] == [[3], [5], [2], [1]]
    found = buckets([torch.zeros(n, dtype=dtype) for n, dtype in sizes], size=32)
    assert [[each.numel() for each in bucket] for bucket in found] == [[3, 5], [2], [1]]
