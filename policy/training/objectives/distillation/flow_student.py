"""What the methods without a teacher share: average velocities over the straight path.

    x at t ──── u(x, t, s) ────> x + (s - t) u at s        t = 1: noise, 0: the clean chunk

A network that is told t and s gives the mean of the velocity between them, along its own path;
where s = t that is the velocity of flow matching.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context
from dipole.policy.diffusion.processes.flow import Flow
from dipole.policy.heads.diffusion import TARGET_TIME, DiffusionHead
from dipole.policy.policy import Policy
from dipole.policy.training.objectives.distillation.base import Distillation
from dipole.policy.training.objectives.distillation.student import name_of

FLOW, VELOCITY = "flow", "velocity"


class FlowStudent(Distillation):
    """Base class of methods that learn average velocities from demonstrations alone.

    train_encoder, target_decay: See `Distillation`.
    """

    extra_inputs: ClassVar[tuple[str, ...]] = (TARGET_TIME,)
    gamma: ClassVar[float] = 0.0
    needs_teacher: ClassVar[bool] = False

    def __init__(
        self, policy: Policy, train_encoder: bool = True, target_decay: float | None = None
    ) -> None:
        super().__init__(policy, train_encoder=train_encoder, target_decay=target_decay)
        prediction = name_of(policy.config.prediction) or VELOCITY
        if not isinstance(self.head.process, Flow) or prediction != VELOCITY:
            raise ConfigError(
                f"objective {type(self).__name__} learns velocities: policy/process=flow with "
                "policy/prediction=velocity is needed"
            )

    @classmethod
    def student(cls, policy: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        made = super().student(policy, options)
        if name_of(made.get("process")) != FLOW:
            made["process"] = {"name": FLOW}
        return {**made, "prediction": {"name": VELOCITY}}

    @classmethod
    def notes(
        cls, teacher: Mapping[str, Any], student: Mapping[str, Any], checkpoint: Path
    ) -> Iterator[str]:
        yield from super().notes(teacher, student, checkpoint)
        process, prediction = (name_of(teacher.get(key)) for key in ("process", "prediction"))
        if process != FLOW or prediction not in (None, VELOCITY):
            before = f"process {process or 'vp'}"
            before += f", prediction {prediction}" if prediction else ""
            yield f"this method learns velocities: process flow, prediction velocity, not {before}"


def average_velocity(
    head: DiffusionHead, x: Tensor, time: Tensor, target: Tensor, context: Context
) -> Tensor:
    """u(x, t, s), [B, H, A]. time, target: t and s of rows, [B], from 1, noise, to 0."""
    levels = head.process.level(time), head.process.level(target)
    estimate = head.estimate_at(x, levels[0], context, target=levels[1])
    return estimate.noise - estimate.clean


def spread(rows: Tensor, x: Tensor) -> Tensor:
    """Numbers of rows, [B], to multiply x [B, H, A] with."""
    return rows.view(-1, *[1] * (x.dim() - 1))


def rows_at(share: float, rows: int) -> int:
    """How many of so many rows a share is: one at least where the share is not 0."""
    return 0 if share == 0 else min(rows, max(1, round(share * rows)))


def straight(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x = (1 - t) clean + t noise, [B, H, A]."""
    return torch.lerp(clean, noise, spread(time, clean))
