"""Progressive distillation: a step of the student is worth several of its teacher's, by stages."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.objective import ParameterGroup
from dipole.policy.training.objectives.distillation.checks import check_weight
from dipole.policy.training.objectives.distillation.discriminator import (
    balance,
    deceiving_loss,
    discriminator_loss,
    judged,
)
from dipole.policy.training.objectives.distillation.judged_student import (
    DISCRIMINATOR,
    JudgedStudent,
)
from dipole.policy.training.objectives.distillation.losses import squared
from dipole.policy.training.objectives.distillation.staged_student import StagedStudent
from dipole.policy.training.objectives.distillation.stages import STAGES
from dipole.policy.training.objectives.distillation.steps import clean_towards, moved

TIME_UNIT = 100.0  # of the times that the discriminator is told, which are about 0 to 100


@OBJECTIVES.add("progressive")
class ProgressiveDistillation(StagedStudent, JudgedStudent):
    """max(SNR, 1) |clean - clean*|^2 at x_t, clean* the clean chunk with which one step from t to s
    ends where the stage's teacher ends in several:

        clean* = (x_s - r x_t) / (signal_s - r signal_t),   r = noise_s / noise_t

    (Salimans & Ho, 2022, algorithm 2 and appendix G), as `StagedStudent` says. In the last stages a
    discriminator may tell x_s of the student from the teacher's, given x_t (SDXL-Lightning: Lin et
    al., 2024, section 3.3); its gradient is made `adversarial` times as long as the other's.

    stages: Steps of the teacher, then of the student after each stage; each divides the one before.
    shares: Of the run's steps, of each stage, in any unit; None: all the same.
    spacing: Of the levels of the first of `stages`, see `Process.grid`; later ones are among them.
    max_decay: Of the student's moving average, which has to forget the stage before.
    adversarial_from: The discriminator takes part in stages of so many steps or fewer; 0: in none.
    adversarial: Length of its gradient to the student, relative to the squared loss's.
    discriminator: Options of `DiscriminatorConfig`.
    teacher, weights, train_encoder: See `Distillation`.
    """

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
        self.add_stages(stages, shares, spacing, max_decay)
        check_weight("adversarial", adversarial)
        self.adversarial, self.adversarial_from = adversarial, adversarial_from
        if 0 < adversarial_from < self.stages.counts[-1]:
            raise ConfigError(
                f"objective.adversarial_from is {adversarial_from}, and no stage has so few steps: "
                f"the last of objective.stages is {self.stages.counts[-1]}"
            )
        if adversarial_from:
            self.add_discriminator(discriminator, chunks=2, further=1)

    def parameter_groups(self) -> Mapping[str, list[ParameterGroup]]:
        if self.adversarial_from:
            return super().parameter_groups()
        return super(JudgedStudent, self).parameter_groups()  # there is no discriminator

    def updates(self, step: int) -> Sequence[str]:
        return super().updates(step) if self.is_adversarial else ("policy",)

    @property
    def is_adversarial(self) -> bool:
        return self.student_steps <= self.adversarial_from

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        given = self.given(batch)
        clean, context = given.clean, given.context
        begin, end = self.drawn_steps(len(clean), clean.device)
        level, after = self.grid.at(begin), self.grid.at(end)
        x = level.over(clean).mix(clean, torch.randn_like(clean))
        ended = self.teacher_end(x, begin, end, given)
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
