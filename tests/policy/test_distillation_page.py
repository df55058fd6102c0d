"""The method of docs/distillation.md is complete: it distils."""

import re
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import make_trainer, write_dataset

from dipole.policy.core.components import OBJECTIVES
from dipole.policy.training.objectives.distillation.base import distilling_methods

PAGE = (Path(__file__).parents[2] / "docs/distillation.md").read_text()
# The teacher's steps are clipped, a student's jump in training is not.
FLOW = {"process": {"name": "flow"}, "head": {"name": "diffusion", "clip_sample": False}}


@pytest.fixture
def page():
    """The example, registered while a test runs."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/distillation.md", "exec"), {"__name__": "example"})
    yield
    del OBJECTIVES._table["knowledge"]


def test_the_method_of_the_page_distils(page, tmp_path):
    trainer = make_trainer(tmp_path / "none", write_dataset(tmp_path / "data"), policy=FLOW)
    teacher = trainer.state
    teacher.save(tmp_path / "run", trainer.config, {})
    batch = teacher.objective.fake_batch(8)
    make = OBJECTIVES["knowledge"]
    whole = make(teacher.policy, teacher=str(tmp_path / "run"), levels=1)(batch).total
    assert whole.item() < 1e-8  # one step of the teacher is what the student does already
    objective = make(teacher.policy, teacher=str(tmp_path / "run"), levels=2)
    optimizer = torch.optim.Adam(objective.policy.head.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = objective(batch).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < sum(losses[:3])


def test_every_method_is_on_the_page():
    lacking = [name for name in distilling_methods() if f"| `{name}` |" not in PAGE]
    assert not lacking
