"""Latent consistency models: consistency of a guided teacher, for any scale of guidance."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.objectives.distillation.base import Distillation
from dipole.policy.training.objectives.distillation.checks import check_choice, check_decay
from dipole.policy.training.objectives.distillation.losses import distance
from dipole.policy.training.objectives.distillation.steps import LevelGrid

W_MIN, W_MAX = 1.0, 4.0  # scales of guidance


@OBJECTIVES.add("lcm")
class LatentConsistency(Distillation):
    """d(f(x_n, t_n, w), f_target(Psi(x_n, w), t_n+k, w)), w ~ U[w_min, w_max], f the student's
    clean chunk, f_target its average, Psi one step over k levels of the teacher's ODE, guided by w
    (Luo et al., 2023, algorithm 1). At the clean level f is x itself. The published w is this less
    1: here 1 is the teacher without guidance.

    levels: Of the teacher's ODE from noise to the chunk.
    skip: How many of them a step passes, k.
    spacing: Where they lie, see `Process.grid`; None: as the process prefers.
    w_min, w_max: Scales of guidance that the student is told.
    metric: huber, as of Song & Dhariwal, 2023, or squared.
    target_decay: Of the moving average that makes targets.
    teacher, weights, train_encoder: See `Distillation`.
    """

    extra_inputs = ("guidance_scale",)
    keeps_guidance = True

    def __init__(
        self,
        policy: Policy,
        teacher: str | None = None,
        weights: str = "ema",
        train_encoder: bool = False,
        levels: int = 100,
        skip: int = 10,
        spacing: str | None = None,
        w_min: float = W_MIN,
        w_max: float = W_MAX,
        metric: str = "huber",
        target_decay: float = 0.95,
    ) -> None:
        check_decay("target_decay", target_decay)
        super().__init__(policy, teacher, weights, train_encoder, target_decay)
        check_choice("metric", metric, ("huber", "squared"))
        _check_scales(w_min, w_max)
        self.grid = LevelGrid(self.head.process, levels, spacing)
        if not 1 <= skip <= self.grid.steps:
            raise ConfigError(
                f"objective.skip is {skip}: from 1 to the {self.grid.steps} levels there are"
            )
        guided = self.teacher_policy.guidance is not None
        self.scales = (w_min, w_max) if guided else (1.0, 1.0)
        self.skip, self.metric = skip, metric

    @classmethod
    def student(cls, policy: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        made = super().student(policy, options)
        guidance = made.get("guidance")
        w_min, w_max = options.get("w_min", W_MIN), options.get("w_max", W_MAX)
        _check_scales(w_min, w_max)
        if guidance is not None:
            scale = min(max(guidance.get("scale", 1.0), w_min), w_max)
            made["guidance"] = {**guidance, "scale": scale, "scales": [w_min, w_max]}
        return made

    @classmethod
    def notes(
        cls, teacher: Mapping[str, Any], student: Mapping[str, Any], checkpoint: Path
    ) -> Iterator[str]:
        yield from super().notes(teacher, student, checkpoint)
        if teacher.get("guidance") is None:
            yield (
                f"{checkpoint} was not trained to do without its observation: the student learns "
                "guidance_scale=1 alone; a teacher of policy/guidance=classifier_free gives it more"
            )
            return
        scale, taken = teacher["guidance"].get("scale", 1.0), student["guidance"].get("scale", 1.0)
        if taken != scale:
            yield (
                f"the teacher's guidance_scale, {scale:g}, is not within method.w_min and w_max: "
                f"the student's is {taken:g} unless told otherwise"
            )

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        given = self.given(batch)
        index = self.grid.draw(len(given.clean), given.clean.device)
        after_index = (index + self.skip).clamp(max=self.grid.steps)
        level, after = self.grid.at(index), self.grid.at(after_index)
        x = level.over(given.clean).mix(given.clean, torch.randn_like(given.clean))
        least, most = self.scales
        scale = least + (most - least) * torch.rand(len(x), device=x.device)
        with torch.no_grad():
            nearer = self.step_by(self.teacher_estimator(given, scale), x, level, after)
            wanted = self.target_head.estimate_at(nearer, after, given.context, scale=scale).clean
            wanted = torch.where(after.over(x).noise == 0, nearer, wanted)
        found = self.head.estimate_at(x, level, given.context, scale=scale).clean
        return Loss(distance(self.metric, found - wanted, given.counted).mean())


def _check_scales(w_min: float, w_max: float) -> None:
    if not 0 <= w_min <= w_max:
        raise ConfigError(
            f"objective.w_min is {w_min} and w_max {w_max}: 0 <= w_min <= w_max is needed"
        )
