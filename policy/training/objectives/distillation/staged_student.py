"""Students that become their own teacher by stages, each of fewer steps."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.policy import Policy
from dipole.policy.training.config import EMAConfig
from dipole.policy.training.objective import Average
from dipole.policy.training.objectives.distillation.base import Distillation
from dipole.policy.training.objectives.distillation.checks import check_decay, numbers
from dipole.policy.training.objectives.distillation.given import Given
from dipole.policy.training.objectives.distillation.stages import STAGES, Stages
from dipole.policy.training.objectives.distillation.steps import Estimator, LevelGrid, ode_step


class StagedStudent(Distillation):
    """Base class: `grid`, the levels of the first stage's teacher, and `stage`, how many stages
    were completed. The first stage's teacher is the teacher; a later stage's is the moving average
    of the student as the stage before has left it."""

    gamma: ClassVar[float] = 0.0
    stages: Stages
    grid: LevelGrid
    max_decay: float
    stage: Tensor

    def add_stages(
        self,
        stages: Sequence[int],
        shares: Sequence[float] | None,
        spacing: str | None,
        max_decay: float,
    ) -> None:
        """Called once, after the policy is there.

        stages, shares: See `Stages.of`.
        spacing: Of the levels of the first of `stages`, see `Process.grid`; later ones are among
            them.
        max_decay: Of the student's moving average, which has to forget the stage before.
        """
        check_decay("max_decay", max_decay)
        self.stages, self.max_decay = Stages.of(stages, shares), max_decay
        first = self.stages.counts[0]
        self.grid = LevelGrid(self.head.process, first, spacing)
        if self.grid.steps != first:
            raise ConfigError(
                f"objective.stages begins with {first}, and of spacing {spacing!r} the "
                f"noise process has {self.grid.steps} levels, since it rounds them: choose another "
                "spacing (null: trailing, or uniform)"
            )
        # Of later stages: the student as it was, which need not predict what the teacher does.
        self.stage_teacher = copy.deepcopy(self.head).requires_grad_(False).eval()
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))

    @classmethod
    def jumps(cls, options: Mapping[str, Any]) -> int:
        return int(numbers("stages", options.get("stages", STAGES), STAGES)[-1])

    def averages(self) -> Mapping[str, Average]:
        return {"policy": Average(self.policy, EMAConfig(max_decay=self.max_decay))}

    @property
    def student_steps(self) -> int:
        """Of the stage."""
        return self.stages.student_steps(int(self.stage))

    def begin_step(self, step: int) -> None:
        """Enter a stage: the student as it is now becomes the teacher. A run that is resumed does
        the same with the same weights; it never goes back by a stage."""
        if self.stages.is_over(int(self.stage), step, self.total_steps):
            averaged = self.average("policy")
            assert isinstance(averaged, Policy)
            self.stage_teacher.load_state_dict(averaged.head.state_dict(), strict=False)
            self.stage += 1

    def drawn_steps(self, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Where steps of the student begin and end, indices [B] of `grid`, each as often."""
        stride = self.grid.steps // self.student_steps
        index = self.grid.draw(rows, device, self.student_steps) * stride
        return index, index + stride

    @torch.no_grad()
    def teacher_end(self, x: Tensor, begin: Tensor, end: Tensor, given: Given) -> Tensor:
        """Where the stage's teacher ends, which takes several steps from `begin` to `end`."""
        estimate, ratio = self._stage_estimator(given), self.stages.teacher_strides(int(self.stage))
        stride = (end - begin) // ratio
        for number in range(ratio):
            here, there = (self.grid.at(begin + stride * (number + more)) for more in (0, 1))
            x = ode_step(estimate, x, here, there)
        return x

    def _stage_estimator(self, given: Given) -> Estimator:
        """What the stage's teacher says: first the teacher, clipped as its chunks are."""
        if self.stage == 0:
            return self.teacher_estimator(given)
        return lambda x, at: self.stage_teacher.estimate_at(x, at, given.context)
