"""Consistency trajectory models: jumps from any point of a trajectory to any later one."""

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.core.row_draws import first_rows
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.objectives.distillation.base import Distillation
from dipole.policy.training.objectives.distillation.checks import (
    check_choice,
    check_decay,
    check_share,
    check_weight,
)
from dipole.policy.training.objectives.distillation.given import Given
from dipole.policy.training.objectives.distillation.losses import distance
from dipole.policy.training.objectives.distillation.steps import LevelGrid, jump


@OBJECTIVES.add("ctm")
class ConsistencyTrajectory(Distillation):
    """With G(x, t, s) the student's jump, levels t > u >= s drawn, x_u the teacher's ODE from x_t,
    and G_target the student's moving average (Kim et al., 2024, eq. 9 and 10; on robots: Prasad et
    al., 2024, "Consistency Policy"),

        d(G_target(G(x_t, t, s), s, 0), G_target(G_target(x_u, u, s), s, 0)) + denoising * DSM

    DSM is the loss of the diffusion policy that the student is where it jumps nowhere, g(x, t, t).
    The adversarial term of Kim et al. is left out, as in Consistency Policy.

    levels: Steps of the teacher's ODE from noise to the chunk.
    spacing: Where they lie, see `Process.grid`; None: as the process prefers.
    order: Of the teacher's steps: 1, Euler's method, or 2, Heun's, of two evaluations.
    teacher_steps: From t to u, at most.
    end_share: Of rows whose s is 0, the jump that one step of sampling makes; of others s is drawn
        from u to 0, as published of all. The jump from s to 0 is then none, and costs nothing.
    metric: huber, as of Song & Dhariwal, 2023, or squared.
    denoising: Weight of DSM.
    denoising_rows: Share of a batch's rows that have it.
    target_decay: Of the moving average that makes targets.
    teacher, weights, train_encoder: See `Distillation`.
    """

    extra_inputs = ("target_time",)
    gamma = 0.0

    def __init__(
        self,
        policy: Policy,
        teacher: str | None = None,
        weights: str = "ema",
        train_encoder: bool = False,
        levels: int = 10,
        spacing: str | None = None,
        order: int = 1,
        teacher_steps: int = 1,
        end_share: float = 0.5,
        metric: str = "huber",
        denoising: float = 0.1,
        denoising_rows: float = 0.25,
        target_decay: float = 0.95,
    ) -> None:
        check_decay("target_decay", target_decay)
        super().__init__(policy, teacher, weights, train_encoder, target_decay)
        check_choice("metric", metric, ("huber", "squared"))
        check_choice("order", order, (1, 2))
        if not 1 <= teacher_steps <= levels:
            raise ConfigError(
                f"objective.teacher_steps is {teacher_steps}: between 1 and levels, {levels}"
            )
        check_weight("denoising", denoising)
        check_share("end_share", end_share)
        check_share("denoising_rows", denoising_rows)
        self.end_share, self.denoising_rows = end_share, denoising_rows
        self.order, self.metric, self.denoising = order, metric, denoising
        self.teacher_steps = teacher_steps
        self.grid = LevelGrid(self.head.process, levels, spacing)

    def segments(self, step: int) -> int:
        """In how many parts trajectories are divided; jumps stay within one."""
        return 1

    def ends(self, index: Tensor, step: int) -> Tensor:
        """The last level of the segments that levels lie in; by indices, [B]."""
        count, steps = self.segments(step), self.grid.steps
        edges = [round(number * steps / count) for number in range(1, count + 1)]
        known = torch.tensor(edges, device=index.device)
        return known[torch.searchsorted(known, index, right=True)]

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        given = self.given(batch)
        index = self.grid.draw(len(given.clean), given.clean.device)
        consistency = self.consistency(given, index, self.ends(index, step)).mean()
        some = first_rows(self.denoising_rows, len(given.clean))
        if not (self.denoising and some.here):
            return Loss(consistency)
        which = slice(some.here)
        with some.drawn():
            own = self.head.loss(given.chunks.rows_of(which), given.context.rows_of(which))
        plain = some.weight * own.total
        terms = {"consistency": consistency, "denoising": plain}
        return Loss(consistency + self.denoising * plain, terms)

    def consistency(self, given: Given, index: Tensor, end: Tensor) -> Tensor:
        """The first term of rows, [B], from levels `index` on, compared at levels `end`."""
        nearer = torch.minimum(index + 1 + _below(self.teacher_steps, index), end)
        at_end = first_rows(self.end_share, len(index)).here  # their order says nothing
        last = torch.cat([end[:at_end], self._targets(nearer, end)[at_end:]])
        level, after = self.grid.at(index), self.grid.at(last)
        x = level.over(given.clean).mix(given.clean, torch.randn_like(given.clean))
        between = slice(at_end, None)
        with torch.no_grad():
            wanted = self._teachers(x, index, nearer, given)
            wanted = jump(self.target_head, wanted, self.grid.at(nearer), after, given.context)
            wanted = self._to_end(wanted, last, end, given, between)
        found = jump(self.head, x, level, after, given.context)
        found = self._to_end(found, last, end, given, between)
        return distance(self.metric, found - wanted, given.counted)

    def _targets(self, nearer: Tensor, end: Tensor) -> Tensor:
        """The levels s that are jumped to, from `nearer` to `end`, [B]."""
        share = torch.rand(end.shape, device=end.device)
        return torch.minimum(nearer + (share * (end - nearer + 1)).long(), end)

    def _teachers(self, x: Tensor, index: Tensor, nearer: Tensor, given: Given) -> Tensor:
        """x at levels `nearer`, one step of the teacher after another."""
        for _ in range(self.teacher_steps):
            after = torch.minimum(index + 1, nearer)
            here, there = self.grid.at(index), self.grid.at(after)
            x = self.teacher_step(x, here, there, given, self.order)
            index = after
        return x

    def _to_end(self, x: Tensor, index: Tensor, end: Tensor, given: Given, which: slice) -> Tensor:
        """x where the target network's jump to the segment's end leads, which is compared.

        which: The rows that are not there yet.
        """
        if not len(x[which]):
            return x
        levels = self.grid.at(index[which]), self.grid.at(end[which])
        context = given.context.rows_of(which).map(Tensor.detach)  # the target trains nothing
        ended = jump(self.target_head, x[which], *levels, context)
        return torch.cat([x[: which.start], ended])


def _below(count: int, like: Tensor) -> Tensor:
    """Whole numbers from 0 to count - 1, [B]."""
    return torch.randint(count, like.shape, device=like.device)
