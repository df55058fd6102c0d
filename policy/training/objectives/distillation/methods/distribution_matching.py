"""Distribution matching: the student's chunks are to be distributed as the teacher's."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.diffusion.predictions import NoisePrediction
from dipole.policy.heads.base import ChunkBatch, Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.objective import ParameterGroup
from dipole.policy.training.objectives.distillation.base import Distillation
from dipole.policy.training.objectives.distillation.given import Given
from dipole.policy.training.objectives.distillation.losses import squared
from dipole.policy.training.objectives.distillation.steps import LevelGrid

SCORE = "score"  # the update of the network that learns the student's score


@OBJECTIVES.add("distribution_matching")
class DistributionMatching(Distillation):
    """The gradient of KL(student | teacher) at a' = G(z, o), one jump from noise, is taken as

        w(t) (S(a'_t) - T(a'_t)),   w(t) = 1, or 1 / mean |a' - T(a'_t)|

    with a'_t the chunk with noise up to a level t, T the teacher's clean chunk, and S that of a
    network that begins as the teacher and learns to denoise the student's own chunks (DMD: Yin et
    al., 2024, section 3.2; OneDP: Wang et al., 2024). In the beginning of the run, regression to
    where the teacher's ODE leads from z (Yin et al., 2024, section 3.3) keeps all modes.

    Where the teacher predicts noise, w(t) has a factor signal^2 / (signal^2 + noise^2): its errors
    count noise / signal times in S and T.

    normalized: Whether w(t) is the latter, as published (DMD), or 1. Where chunks are as smooth as
        a robot's, a' - T(a'_t) is next to nothing at low noise, and its inverse makes noise of it.
    regression: Weight of the regression; 0: none.
    regression_until: Part of the run after which there is none; its weight falls linearly.
    regression_rows: Part of a batch's rows that are regressed: a pair costs `ode_steps` evaluations
        of the teacher.
    ode_steps: Of the teacher, for a pair.
    score_updates: Of the score network, for each of the student.
    score_learning_rate_ratio: Of its learning rate to train.learning_rate.
    teacher, weights, train_encoder: See `Distillation`.
    """

    def __init__(
        self,
        policy: Policy,
        teacher: str | None = None,
        weights: str = "ema",
        train_encoder: bool = False,
        normalized: bool = False,
        regression: float = 1.0,
        regression_until: float = 0.5,
        regression_rows: float = 0.25,
        ode_steps: int = 10,
        score_updates: int = 1,
        score_learning_rate_ratio: float = 10.0,
    ) -> None:
        super().__init__(policy, teacher, weights, train_encoder)
        if not (regression >= 0 and 0 <= regression_until <= 1 and score_updates >= 1):
            raise ConfigError(
                f"objective.regression is {regression}, regression_until {regression_until}, "
                f"score_updates {score_updates}: a weight of 0 or more, a part between 0 and 1, "
                "and at least one update are needed"
            )
        if not 0 < regression_rows <= 1:
            raise ConfigError(
                f"objective.regression_rows is {regression_rows}: a part of a batch, above 0 and "
                "at most 1, is needed"
            )
        self.regression, self.regression_until = regression, regression_until
        self.regression_rows, self.normalized = regression_rows, normalized
        self.score_updates, self.score_ratio = score_updates, score_learning_rate_ratio
        self.grid, self.ode = (LevelGrid(self.head.process, n) for n in (1, ode_steps))
        self.score = copy.deepcopy(self.teacher_head).requires_grad_(True)

    def parameter_groups(self) -> Mapping[str, list[ParameterGroup]]:
        own = ParameterGroup(list(self.score.parameters()), self.score_ratio)
        return {**super().parameter_groups(), SCORE: [own]}

    def updates(self, step: int) -> Sequence[str]:
        return (*[SCORE] * self.score_updates, "policy")

    def regression_weight(self, step: int) -> float:
        end = self.regression_until * self.total_steps
        return self.regression * max(0.0, 1 - step / end) if end else 0.0

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        given = self.given(batch)
        clean, context, counted = given.clean, given.context, given.counted
        level = self.grid.at(torch.zeros(len(clean), dtype=torch.long, device=clean.device))
        noise = level.over(clean).noise * torch.randn_like(clean)
        with torch.set_grad_enabled(torch.is_grad_enabled() and update == "policy"):
            drawn = given.filled(self.head.estimate_at(noise, level, context).clean)
        if update == SCORE:
            own = ChunkBatch(drawn.detach(), counted=counted)
            return Loss(self.score.loss(own, given.of_teacher.map(Tensor.detach)).total)
        slope = self._slope(drawn.detach(), given)
        # Its value is the slope's own size; its gradient at `drawn`, a row, the slope.
        matching = squared(drawn - (drawn - slope).detach(), counted).mean() / 2
        weight = self.regression_weight(step)
        if not weight:
            return Loss(matching, {"matching": matching})
        some = slice(max(1, round(self.regression_rows * len(drawn))))
        ended = self._ode_end(noise[some], given.contexts_of(some))
        which = None if counted is None else counted[some]
        regression = squared(drawn[some] - ended, which).mean()
        parts = {"matching": matching, "regression": regression}
        return Loss(matching + weight * regression, parts)

    @torch.no_grad()
    def _slope(self, drawn: Tensor, given: Given) -> Tensor:
        """w(t) (S - T), [B, H, A]; S, which begins as T, sees what T sees."""
        process = self.head.process
        level = process.level(process.sample_times((len(drawn),), drawn.device))
        x = level.over(drawn).mix(drawn, torch.randn_like(drawn))
        own = self.score.estimate_at(x, level, given.of_teacher).clean
        right = self.teacher_estimate(x, level, given).clean
        slope = own - right
        if isinstance(self.teacher_head.prediction, NoisePrediction):
            over = level.over(x)
            slope = slope * over.signal**2 / (over.signal**2 + over.noise**2)
        if not self.normalized:
            return slope
        return slope / mean_size(drawn - right, given.counted).clamp(min=1e-3)[:, None, None]

    @torch.no_grad()
    def _ode_end(self, x: Tensor, given: Given) -> Tensor:
        """Where the teacher's ODE leads from noise."""
        for number in range(self.ode.steps):
            index = torch.full((len(x),), number, device=x.device)
            x = self.teacher_step(x, self.ode.at(index), self.ode.at(index + 1), given)
        return x


def mean_size(error: Tensor, counted: Tensor | None) -> Tensor:
    """Of the numbers that count, [B, H, A] -> [B]."""
    if counted is None:
        return error.abs().flatten(1).mean(dim=1)
    return (error.abs() * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)
