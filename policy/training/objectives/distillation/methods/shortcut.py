"""Shortcut models: one network for steps of every size, without a teacher."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.objectives.distillation.checks import (
    check_begin,
    check_decay,
    check_share,
)
from dipole.policy.training.objectives.distillation.flow_student import (
    FlowStudent,
    average_velocity,
    rows_at,
    spread,
    straight,
)
from dipole.policy.training.objectives.distillation.given import Given
from dipole.policy.training.objectives.distillation.losses import squared

FINEST = 32


@OBJECTIVES.add("shortcut")
class Shortcut(FlowStudent):
    """u(x_t, t, t - 2d) = (u(x_t, t, t - d) + u(x', t - d, t - 2d)) / 2, x' = x_t - d u(x_t, t, t -
    d): a step is what two of half its size make, by the student's moving average; the steps of no
    size learn by flow matching (Frans et al., 2024, eq. 5 and algorithm 1).

    consistent: Share of a batch that learns the first.
    begin: Share of the run after which that begins; before, all of a batch is flow matching, whose
        velocities the steps are then made of.
    finest: Steps, a power of 2, from noise to the chunk that are asked for as of no size, as
        published; what is learned of a size are 1 to finest / 2 of them, the least two such steps.
    target_decay: Of the moving average.
    train_encoder: See `Distillation`.
    """

    def __init__(
        self,
        policy: Policy,
        consistent: float = 0.25,
        begin: float = 0.0,
        finest: int = FINEST,
        target_decay: float = 0.999,
        train_encoder: bool = True,
    ) -> None:
        check_decay("target_decay", target_decay)
        super().__init__(policy, train_encoder, target_decay)
        check_share("consistent", consistent)
        check_begin(begin)
        self.halvings = int(math.log2(max(finest, 1)))
        if finest < 2 or 2**self.halvings != finest:
            raise ConfigError(f"objective.finest is {finest}: a power of 2, at least 2, is needed")
        self.consistent, self.begin, self.finest = consistent, begin, finest

    @classmethod
    def student(cls, policy: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        made = super().student(policy, options)
        solver = {**made["head"]["solver"], "finest": options.get("finest", FINEST)}
        return {**made, "head": {**made["head"], "solver": solver}}

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        given = self.given(batch)
        clean, noise = given.clean, torch.randn_like(given.clean)
        own = rows_at(self._share(step), len(clean))
        time, target = self._times(own, len(clean), clean.device)
        x, wanted = straight(clean, noise, time), noise - clean
        if own:
            first = given.context.rows_of(slice(own))
            with torch.no_grad():
                halves = self._of_halves(x[:own], time[:own], target[:own], first)
            wanted = torch.cat([halves, wanted[own:]])
        found = average_velocity(self.head, x, time, target, given.context)
        return self._loss(found - wanted, given, own)

    def _share(self, step: int) -> float:
        return 0.0 if step < self.begin * self.total_steps else self.consistent

    def _times(self, own: int, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """t and s, [B]: of the first rows a step of 1, 1/2, 1/4, ..., of the others none."""
        # Drawn for all rows: of a batch that processes share each has its own.
        steps = 2.0 ** torch.randint(self.halvings, (rows,), device=device)[:own]
        size = 1 / steps
        time = 1 - size * (torch.rand(rows, device=device)[:own] * steps).floor()
        plain = self.head.process.sample_times((rows,), device)[own:]
        return torch.cat([time, plain]), torch.cat([time - size, plain])

    def _of_halves(self, x: Tensor, time: Tensor, target: Tensor, context: Context) -> Tensor:
        """The mean velocity of two half steps by the moving average, the same [B, H, A]."""
        between = (time + target) / 2
        finest = time - target <= 2 / self.finest  # whose halves are asked for as of no size
        ends = torch.where(finest, time, between), torch.where(finest, between, target)
        head = self.target_head
        first = average_velocity(head, x, time, ends[0], context)
        nearer = x - spread(time - between, x) * first
        second = average_velocity(head, nearer, between, ends[1], context)
        return (first + second) / 2

    def _loss(self, error: Tensor, given: Given, own: int) -> Loss:
        rows = squared(error, given.counted)
        parts = {"flow_matching": rows[own:].mean()} if own < len(rows) else {}
        if own:
            parts["consistency"] = rows[:own].mean()
        return Loss(rows.mean(), parts)
