"""Progressive distillation: a step of the student is worth several of its teacher's, by stages."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.config import EMAConfig
from dipole.policy.training.objective import Average, ParameterGroup
from dipole.policy.training.objectives.distillation.checks import check_decay, check_weight, numbers
from dipole.policy.training.objectives.distillation.discriminator import (
    balance,
    deceiving_loss,
    discriminator_loss,
    judged,
)
from dipole.policy.training.objectives.distillation.given import Given
from dipole.policy.training.objectives.distillation.judged_student import (
    DISCRIMINATOR,
    JudgedStudent,
)
from dipole.policy.training.objectives.distillation.losses import squared
from dipole.policy.training.objectives.distillation.stages import STAGES, Stages
from dipole.policy.training.objectives.distillation.steps import (
    Estimator,
    LevelGrid,
    clean_towards,
    moved,
    ode_step,
)

TIME_UNIT = 100.0  # of the times that the discriminator is told, which are about 0 to 100


@OBJECTIVES.add("progressive")
class ProgressiveDistillation(JudgedStudent):
    """max(SNR, 1) |clean - clean*|^2 at x_t, clean* the clean chunk with which one step from t to s
    ends where the stage's teacher ends in several:

        clean* = (x_s - r x_t) / (signal_s - r signal_t),   r = noise_s / noise_t

    (Salimans & Ho, 2022, algorithm 2 and appendix G). The first stage's teacher is the teacher; a
    later stage's is the moving average of the student as the stage before has left it. In the last
    stages a discriminator may tell x_s of the student from the teacher's, given x_t
    (SDXL-Lightning: Lin et al., 2024, section 3.3); its gradient is made `adversarial` times as
    long as the other's.

    stages: Steps of the teacher, then of the student after each stage; each divides the one before.
    shares: Of the run's steps, of each stage, in any unit; None: all the same.
    spacing: Of the levels of the first of `stages`, see `Process.grid`; later ones are among them.
    max_decay: Of the student's moving average, which has to forget the stage before.
    adversarial_from: The discriminator takes part in stages of so many steps or fewer; 0: in none.
    adversarial: Length of its gradient to the student, relative to the squared loss's.
    discriminator: Options of `DiscriminatorConfig`.
    teacher, weights, train_encoder: See `Distillation`.
    """

    gamma: ClassVar[float] = 0.0
    stage: Tensor  # how many were completed

    def __init__(
        self,
        policy: Policy,
        teacher: str | None = None,
        weights: str = "ema",
        train_encoder: bool = False,
        stages: Sequence[int] = STAGES,
        shares: Sequence[float] | None = None,
        spacing: str | None = None,
        max_decay: float = 0.99,
        adversarial_from: int = 0,
        adversarial: float = 0.5,
        discriminator: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(policy, teacher, weights, train_encoder)
        self.stages = Stages.of(stages, shares)
        check_decay("max_decay", max_decay)
        check_weight("adversarial", adversarial)
        self.max_decay, self.adversarial = max_decay, adversarial
        self.adversarial_from = adversarial_from
        if 0 < adversarial_from < self.stages.counts[-1]:
            raise ConfigError(
                f"objective.adversarial_from is {adversarial_from}, and no stage has so few steps: "
                f"the last of objective.stages is {self.stages.counts[-1]}"
            )
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
        if adversarial_from:
            self.add_discriminator(discriminator, chunks=2, further=1)

    @classmethod
    def jumps(cls, options: Mapping[str, Any]) -> int:
        return int(numbers("stages", options.get("stages", STAGES), STAGES)[-1])

    def averages(self) -> Mapping[str, Average]:
        return {"policy": Average(self.policy, EMAConfig(max_decay=self.max_decay))}

    def parameter_groups(self) -> Mapping[str, list[ParameterGroup]]:
        if self.adversarial_from:
            return super().parameter_groups()
        return super(JudgedStudent, self).parameter_groups()  # there is no discriminator

    def updates(self, step: int) -> Sequence[str]:
        return super().updates(step) if self.is_adversarial else ("policy",)

    @property
    def student_steps(self) -> int:
        """Of the stage."""
        return self.stages.student_steps(int(self.stage))

    @property
    def is_adversarial(self) -> bool:
        return self.student_steps <= self.adversarial_from

    def begin_step(self, step: int) -> None:
        """Enter a stage: the student as it is now becomes the teacher. A run that is resumed does
        the same with the same weights; it never goes back by a stage."""
        if self.stages.is_over(int(self.stage), step, self.total_steps):
            averaged = self.average("policy")
            assert isinstance(averaged, Policy)
            self.stage_teacher.load_state_dict(averaged.head.state_dict(), strict=False)
            self.stage += 1

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        given = self.given(batch)
        clean, context = given.clean, given.context
        stride = self.stages.counts[0] // self.student_steps
        ratio = self.stages.teacher_strides(int(self.stage))
        index = self.grid.draw(len(clean), clean.device, self.student_steps) * stride
        level, after = self.grid.at(index), self.grid.at(index + stride)
        x = level.over(clean).mix(clean, torch.randn_like(clean))
        ended = self._teacher_end(x, index, stride // ratio, ratio, given)
        with torch.set_grad_enabled(torch.is_grad_enabled() and update == "policy"):
            estimate = self.head.estimate_at(x, level, context)
        wanted = clean_towards(ended, x, level, after)
        snr = (level.signal / level.noise).square().clamp(min=1.0)
        error = (snr * squared(estimate.clean - wanted, given.counted)).mean()
        if not self.is_adversarial and update == "policy":
            return Loss(error)
        found = moved(estimate, x, level, after)

        counted = given.counted if given.counted is None else given.counted.repeat(1, 1, 2)
        seen, time = context.map(Tensor.detach), level.time[:, None] / TIME_UNIT
        judge_pair = judged(self.discriminator, seen, counted, time)

        def judge(reached: Tensor) -> Tensor:
            return judge_pair(torch.cat([reached, x], dim=-1))

        if update == DISCRIMINATOR:
            return discriminator_loss(judge, ended, found, self.options.r1)
        deceiving = deceiving_loss(judge, found)
        factor = self.adversarial * balance(error, deceiving, estimate.clean)
        return Loss(error + factor * deceiving, {"squared": error, "deceiving": deceiving})

    @torch.no_grad()
    def _teacher_end(
        self, x: Tensor, index: Tensor, stride: int, steps: int, given: Given
    ) -> Tensor:
        """Where the stage's teacher ends after so many steps, of `stride` levels of the grid."""
        estimate = self._stage_estimator(given)
        for number in range(steps):
            here, there = (self.grid.at(index + stride * (number + more)) for more in (0, 1))
            x = ode_step(estimate, x, here, there)
        return x

    def _stage_estimator(self, given: Given) -> Estimator:
        """What the stage's teacher says: first the teacher, clipped as its chunks are."""
        if self.stage == 0:
            return self.teacher_estimator(given)
        return lambda x, at: self.stage_teacher.estimate_at(x, at, given.context)
