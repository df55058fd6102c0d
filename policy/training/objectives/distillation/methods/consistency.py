"""Consistency distillation: every point of a trajectory leads to the same chunk."""

import torch

from dipole.policy.core.components import OBJECTIVES
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.objectives.distillation.base import Distillation
from dipole.policy.training.objectives.distillation.checks import check_choice, check_decay
from dipole.policy.training.objectives.distillation.losses import distance
from dipole.policy.training.objectives.distillation.steps import LevelGrid


@OBJECTIVES.add("consistency")
class ConsistencyDistillation(Distillation):
    """d(f(x_n, t_n), f_target(Phi(x_n), t_n+1)), f the student's clean chunk, Phi a step of the
    teacher's ODE, f_target the student's moving average (Song et al., 2023, algorithm 2). At the
    clean level f is x itself.

    levels: Steps of the teacher's ODE from noise to the chunk.
    spacing: Where they lie, see `Process.grid`; None: as the process prefers.
    order: Of the teacher's steps: 1, Euler's method, or 2, Heun's, of two evaluations.
    metric: huber, as of Song & Dhariwal, 2023, or squared.
    target_decay: Of the moving average that makes targets.
    teacher, weights, train_encoder: See `Distillation`.
    """

    def __init__(
        self,
        policy: Policy,
        teacher: str | None = None,
        weights: str = "ema",
        train_encoder: bool = False,
        levels: int = 10,
        spacing: str | None = None,
        order: int = 1,
        metric: str = "huber",
        target_decay: float = 0.95,
    ) -> None:
        check_decay("target_decay", target_decay)
        super().__init__(policy, teacher, weights, train_encoder, target_decay)
        check_choice("metric", metric, ("huber", "squared"))
        check_choice("order", order, (1, 2))
        self.order, self.metric = order, metric
        self.grid = LevelGrid(self.head.process, levels, spacing)

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        given = self.given(batch)
        index = self.grid.draw(len(given.clean), given.clean.device)
        level, after = self.grid.at(index), self.grid.at(index + 1)
        x = level.over(given.clean).mix(given.clean, torch.randn_like(given.clean))
        with torch.no_grad():
            nearer = self.teacher_step(x, level, after, given, self.order)
            wanted = self.target_head.estimate_at(nearer, after, given.context).clean
            wanted = torch.where(after.over(x).noise == 0, nearer, wanted)
        found = self.head.estimate_at(x, level, given.context).clean
        return Loss(distance(self.metric, found - wanted, given.counted).mean())
