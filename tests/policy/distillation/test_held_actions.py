"""Actions that were constant in the teacher's demonstrations and not in the student's."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from student_runs import student, teacher_run

from dipole.data import EpisodeWriter

pytestmark = pytest.mark.slow


def demonstrations(path, constant):
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10.0) as writer:
        for length in (30, 40, 25):
            state = rng.normal(size=(length, 3)).astype(np.float32).cumsum(0)
            action = state[:, :2].copy()
            if constant:
                action[:, 0] = 0.25
            writer.add_episode({"state": state, "action": action})
    return path


@pytest.mark.parametrize("constant", [True, False])
def test_a_student_holds_what_its_teacher_holds(constant, tmp_path):
    of_teacher = demonstrations(tmp_path / "one.zarr", constant)
    of_student = demonstrations(tmp_path / "other.zarr", not constant)
    teacher = teacher_run(tmp_path / "teacher", of_teacher)
    made = student(tmp_path / "student", of_student, teacher, "consistency").state.objective
    assert made.policy.held.held.tolist() == [constant, False]
    chunk = made.policy.predict({"state": torch.randn(8, 2, 3)}, torch.Generator().manual_seed(0))
    assert bool((chunk[..., 0] == 0.25).all()) == constant
