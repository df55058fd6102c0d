"""Reflow: straight paths between noise and what the teacher makes of it."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.solvers import Jump, table_of
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.objectives.distillation.base import Distillation
from dipole.policy.training.objectives.distillation.checks import check_share
from dipole.policy.training.objectives.distillation.losses import squared
from dipole.policy.training.objectives.distillation.pairs import (
    PairPool,
    Pairs,
    drawn_pairs,
    joined,
    ode_solver,
)


class PairDistillation(Distillation):
    """Base class of methods that learn from pairs of noise and the teacher's chunk.

    steps: Of the teacher's ODE.
    pool: Pairs that are kept for some steps; 0: all are drawn anew.
    reuse: How often one of them is drawn, on average.
    teacher, weights, train_encoder: See `Distillation`.
    """

    def __init__(
        self,
        policy: Policy,
        teacher: str | None = None,
        weights: str = "ema",
        train_encoder: bool = False,
        steps: int = 10,
        pool: int = 4096,
        reuse: int = 4,
    ) -> None:
        super().__init__(policy, teacher, weights, train_encoder)
        if train_encoder and pool:
            raise ConfigError(
                "objective.train_encoder: what is kept in the pool is of an earlier encoder; set "
                "objective.pool=0"
            )
        table_of(ode_solver(self.teacher_head.process, steps), self.teacher_head.process)
        self.steps = steps
        self.pool = PairPool(pool, reuse, self._example())

    def pairs(self, batch: Batch) -> Pairs:
        """As many as the batch has rows; in validation all of them for its observations."""
        given, rows = self.given(batch), len(batch["action"])
        new = self.pool.new_rows(rows) if self.training else rows
        made = drawn_pairs(self.teacher_policy, given.contexts_of(slice(new)), self.steps)
        if self.train_encoder:
            made = made._replace(context=given.context)
        if self.training:
            self.pool.put(made)
        return made if new == rows else joined(made, self.pool.draw(rows - new))

    @torch.no_grad()
    def _example(self) -> Pairs:
        with torch.random.fork_rng():
            given = self.given(self.policy.fake_batch(1))
            return drawn_pairs(self.teacher_policy, given, 1)


@OBJECTIVES.add("reflow")
class Reflow(PairDistillation):
    """The teacher's own loss, with chunks that its ODE makes of the noise that they are mixed with:
    E |(epsilon - clean) - v(x_t, t)|^2 over such pairs for flow and velocity (Liu et al., 2023,
    eq. 1 and section 2.2; the second rectified flow). Paths of pairs are straight in any process,
    up to a scale.

    from_noise: Share of rows at the most noise, where one step begins: what the paper calls
        distillation of a rectified flow (section 2.2).
    steps, pool, reuse: See `PairDistillation`.
    teacher, weights, train_encoder: See `Distillation`.
    """

    gamma: ClassVar[float] = 0.0

    def __init__(self, policy: Policy, from_noise: float = 0.25, **options: Any) -> None:
        super().__init__(policy, **options)
        check_share("from_noise", from_noise)
        self.from_noise = from_noise

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        noise, chunk, context = self.pairs(batch)
        level = self._levels(len(chunk), chunk.device)
        over, head = level.over(chunk), self.head
        given = head.prediction.network_input(over.mix(chunk, noise), over)
        found = head.denoiser(given, head.told(level.time), context).to(chunk.dtype)
        error, weight = (
            found - head.prediction.target(chunk, noise, over),
            head.process.weight(over),
        )
        rows = squared(error if weight is None else error * weight.sqrt())
        return Loss(rows.mean())

    def _levels(self, rows: int, device: torch.device) -> Level:
        drawn = self.head.process.level(self.head.process.sample_times((rows,), device))
        most = Jump(1).levels(self.head.process)[0]
        begins = torch.rand(rows, device=device) < self.from_noise

        def chosen(of_noise: float, other: Tensor) -> Tensor:
            return torch.where(begins, torch.full_like(other, of_noise), other)

        return Level(
            chosen(most.time, drawn.time),
            chosen(most.signal, drawn.signal),
            chosen(most.noise, drawn.noise),
        )
