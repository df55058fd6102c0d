"""Adversarial diffusion distillation: a discriminator for detail, the teacher for what is right."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dipole.policy.core.components import OBJECTIVES
from dipole.policy.diffusion.level import Level
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.objectives.distillation.base import Distillation
from dipole.policy.training.objectives.distillation.checks import check_weight
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
from dipole.policy.training.objectives.distillation.steps import LevelGrid


@OBJECTIVES.add("adversarial")
class AdversarialDistillation(JudgedStudent):
    """-D(a', o) + lambda c(t) |a' - sg(T(sg(a'_t)))|^2, a' the student's clean chunk at one of a
    few levels of noise, a'_t the same with noise up to a level t, T the teacher's clean chunk, and
    c(t) = signal / sqrt(signal^2 + noise^2) (ADD: Sauer et al., 2023, section 3). The discriminator
    tells a' from demonstrated chunks: hinge, with R1 on these.

    lambda is set in each step so that both gradients at a' are as long, times `distillation`; as
    published it is a constant.

    levels: Levels of noise that the student is trained at; one jump begins at the first of them.
    spacing: Where they lie, see `Process.grid`; None: as the process prefers.
    distillation: Length of the teacher's gradient relative to the discriminator's.
    discriminator: Options of `DiscriminatorConfig`.
    teacher, weights, train_encoder: See `Distillation`.
    """

    def __init__(
        self,
        policy: Policy,
        teacher: str | None = None,
        weights: str = "ema",
        train_encoder: bool = False,
        levels: int = 4,
        spacing: str | None = None,
        distillation: float = 1.0,
        discriminator: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(policy, teacher, weights, train_encoder)
        check_weight("distillation", distillation)
        self.distillation, self.grid = distillation, LevelGrid(self.head.process, levels, spacing)
        self.add_discriminator(discriminator)

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        given = self.given(batch)
        clean, context = given.clean, given.context
        judge = judged(self.discriminator, context.map(Tensor.detach), given.counted)
        level = self.grid.at(self.grid.draw(len(clean), clean.device))
        x = level.over(clean).mix(clean, torch.randn_like(clean))
        with torch.set_grad_enabled(torch.is_grad_enabled() and update == "policy"):
            drawn = given.filled(self.head.estimate_at(x, level, context).clean)
        if update == DISCRIMINATOR:
            return discriminator_loss(judge, clean, drawn, self.options.r1)
        deceiving = deceiving_loss(judge, drawn)
        wanted, weight = self._taught(drawn.detach(), given)
        taught = (weight * squared(drawn - wanted, given.counted)).mean()
        factor = self.distillation * balance(deceiving, taught, drawn)
        parts = {"deceiving": deceiving, "distillation": taught, "factor": factor}
        return Loss(deceiving + factor * taught, parts)

    @torch.no_grad()
    def _taught(self, drawn: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """The teacher's clean chunks [B, H, A] of drawn ones with noise, and their weights [B]."""
        level = noised_level(self, len(drawn), drawn.device)
        x = level.over(drawn).mix(drawn, torch.randn_like(drawn))
        weight = level.signal / (level.signal**2 + level.noise**2).sqrt()
        return self.teacher_estimator(given)(x, level).clean, weight


def noised_level(method: Distillation, rows: int, device: torch.device) -> Level:
    """Levels of rows, [B], drawn as the teacher's training drew them."""
    process = method.head.process
    return process.level(process.sample_times((rows,), device))
