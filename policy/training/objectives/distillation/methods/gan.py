"""A conditional GAN: what adversarial training alone makes of demonstrations."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dipole.policy.core.components import OBJECTIVES
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.objectives.distillation.discriminator import (
    deceiving_loss,
    discriminator_loss,
    judged,
)
from dipole.policy.training.objectives.distillation.judged_student import (
    JudgedStudent,
)
from dipole.policy.training.objectives.distillation.steps import LevelGrid


@OBJECTIVES.add("gan")
class ConditionalGAN(JudgedStudent):
    """The policy minimises -D(G(z, o), o), the discriminator max(0, 1 - D(a, o)) +
    max(0, 1 + D(G(z, o), o)) + R1, with chunks a of demonstrations and z noise (Goodfellow et al.,
    2014; Mirza & Osindero, 2014, conditional; Lim & Ye, 2017, hinge; Mescheder et al., 2018, R1).

    The generator is a diffusion head's jump from noise, so that it is run as other students are. A
    baseline: it has no teacher, and nothing keeps it from leaving out what it could draw.

    discriminator: Options of `DiscriminatorConfig`.
    train_encoder: See `Distillation`; the encoder begins untrained.
    """

    needs_teacher: ClassVar[bool] = False

    def __init__(
        self,
        policy: Policy,
        train_encoder: bool = True,
        discriminator: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(policy, train_encoder=train_encoder)
        self.grid = LevelGrid(self.head.process, 1)
        self.add_discriminator(discriminator)

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        given = self.given(batch)
        clean, context = given.clean, given.context
        judge = judged(self.discriminator, context.map(Tensor.detach), given.counted)
        level = self.grid.at(torch.zeros(len(clean), dtype=torch.long, device=clean.device))
        noise = level.over(clean).noise * torch.randn_like(clean)
        with torch.set_grad_enabled(torch.is_grad_enabled() and update == "policy"):
            drawn = self.head.estimate_at(noise, level, context).clean
        if update == "policy":
            return Loss(deceiving_loss(judge, drawn))
        return discriminator_loss(judge, clean, drawn, self.options.r1)
