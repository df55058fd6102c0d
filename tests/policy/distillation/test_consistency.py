"""Consistency distillation: what a row learns, at the last level and before."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_fixture import batch_of, method

from dipole.policy.training.objectives.distillation.methods.consistency import (
    ConsistencyDistillation,
)


@pytest.mark.parametrize("process", ["vp", "flow", "edm"])
@pytest.mark.parametrize("last", [True, False])
def test_a_row_learns_what_is_said_one_step_of_the_teacher_on(process, last, monkeypatch):
    """At the last level that is where the teacher's step ends, the clean chunk; before, what the
    average of the student says there."""
    made = method(ConsistencyDistillation, process, levels=5, metric="squared")
    with torch.no_grad():  # otherwise the student says what its teacher says
        for weight in made.head.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    batch = batch_of(made, 16)
    index = torch.full((16,), 4 if last else 1)
    monkeypatch.setattr(made.grid, "draw", lambda *_: index)
    torch.manual_seed(3)
    loss = made(batch).total
    torch.manual_seed(3)
    given = made.given(batch)
    level, after = made.grid.at(index), made.grid.at(index + 1)
    x = level.over(given.clean).mix(given.clean, torch.randn_like(given.clean))
    wanted = made.teacher_step(x, level, after, given)
    if not last:
        wanted = made.target_head.estimate_at(wanted, after, given.context).clean
    found = made.head.estimate_at(x, level, given.context).clean
    assert float(loss) == pytest.approx(float((found - wanted).square().mean()), rel=1e-5)
    loss.backward()
    assert all(each.grad is None for each in made.target_head.parameters())
    assert any(bool(each.grad.any()) for each in made.head.parameters() if each.grad is not None)
