"""Tiny runs of teachers and students, for the tests of methods."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import training_fixture

from dipole.policy.checkpoint import checkpoints_of
from dipole.policy.core.components import OBJECTIVES


def policy_of(process):
    return {"process": {"name": process}, "head": {"name": "diffusion"}}


def teacher_run(folder, dataset, process="flow"):
    training_fixture.make_trainer(folder, dataset, policy=policy_of(process), steps=2).fit()
    return folder


def student(folder, dataset, teacher, method, *, steps=6, process="flow", **options):
    """A trainer of a method, over the teacher's configuration; its weights are drawn."""
    kind = OBJECTIVES[method]
    policy = dict(kind.student(policy_of(process), options))
    objective = {"name": method, **options}
    if kind.needs_teacher:
        objective["teacher"] = str(teacher)
    changes = {"steps": steps, "checkpoint_every": 2, "validate_every": 3, "keep_checkpoints": 9}
    return training_fixture.make_trainer(
        folder, dataset, objective=objective, policy=policy, **changes
    )


def weights_of(trainer):
    """All that is saved of a run, by name."""
    return {
        **trainer.state.objective.state_dict(),
        **{f"ema.{n}": t for n, t in trainer.state.ema.model.state_dict().items()},
    }


def files(run):
    return {each.name for each in checkpoints_of(run)[-1].iterdir()}
