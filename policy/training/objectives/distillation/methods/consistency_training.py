"""Consistency training: a consistency model out of demonstrations alone, without a teacher."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.diffusion.level import Level
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.objectives.distillation.base import Distillation
from dipole.policy.training.objectives.distillation.checks import check_begin
from dipole.policy.training.objectives.distillation.losses import pseudo_huber
from dipole.policy.training.objectives.distillation.steps import LevelGrid

KARRAS = "karras"
PREDICTION = {"name": "edm"}  # out of input and output of unit variance, at any level


@OBJECTIVES.add("consistency_training")
class ConsistencyTraining(Distillation):
    """d(f(x_n, t_n), sg f(x_n+1, t_n+1)) / (sigma_n - sigma_n+1), both x of the same chunk and the
    same noise, sigma = noise / signal, d pseudo-Huber, n drawn with log(sigma) normal, no moving
    average (Song & Dhariwal, 2023, "improved" consistency training, table 1). The number of levels
    is doubled at equal intervals of the run. At the clean level f is x itself.

    begin: Share of the run after which it begins; before, the policy's own loss is learned: a
        diffusion model is what a consistency model is best begun with (Geng et al., 2024,
        "Consistency models made easy", section 3).
    first_levels, last_levels: When it begins, and at the end.
    log_mean, log_std: Of log(sigma).
    train_encoder: See `Distillation`; with no teacher there is none to keep.
    teacher, weights: As of other methods; not used.
    """

    needs_teacher = False

    def __init__(
        self,
        policy: Policy,
        teacher: str | None = None,
        weights: str = "ema",
        train_encoder: bool = True,
        begin: float = 0.0,
        first_levels: int = 10,
        last_levels: int = 160,
        log_mean: float = -1.1,
        log_std: float = 2.0,
    ) -> None:
        super().__init__(policy, None, weights, train_encoder)
        if not 1 < first_levels <= last_levels:
            raise ConfigError(
                f"objective.first_levels is {first_levels} and last_levels {last_levels}: at least "
                "2, and no fewer at the end"
            )
        check_begin(begin)
        if not log_std > 0:
            raise ConfigError(f"objective.log_std is {log_std}: it must be positive")
        self.begin, self.ends = begin, (first_levels, last_levels)
        self.log_normal = (log_mean, log_std)
        self._warn_of_rounding()
        self._grids: dict[int, tuple[LevelGrid, Tensor]] = {}

    @classmethod
    def student(cls, policy: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing of the teacher is kept, so that the network predicts what learns best."""
        return super().student(policy, options) | {"prediction": PREDICTION}

    def levels(self, step: int) -> int:
        """min(first 2^floor(k / K'), last), K' = floor(K / stages), of the step k of K (table 1),
        both counted from `begin` on.

        As many stages as doubling needs to reach the last number: the paper's log2 floor(last /
        first) + 1 need not be whole, and with 10 and 19 never gets there.
        """
        first, last = self.ends
        stages = math.ceil(math.log2(last / first)) + 1
        begun = math.ceil(self.begin * self.total_steps)
        interval = max((self.total_steps - begun) // stages, 1)
        return int(min(first * 2 ** min(max(step - begun, 0) // interval, stages), last))

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        given = self.given(batch)
        if step < self.begin * self.total_steps:
            return self.head.loss(given.chunks, given.context)
        grid, shares = self.grid(self.levels(step))
        shares = shares.to(given.clean.device)
        drawn = torch.rand(len(given.clean), device=shares.device) * shares.sum()
        index = torch.searchsorted(shares.cumsum(0), drawn, right=True).clamp(max=grid.steps - 1)
        level, after = grid.at(index), grid.at(index + 1)
        noise = torch.randn_like(given.clean)
        x, nearer = (each.over(noise).mix(given.clean, noise) for each in (level, after))
        found = self.head.estimate_at(x, level, given.context).clean
        with torch.no_grad():
            wanted = self.head.estimate_at(nearer, after, given.context).clean
            wanted = torch.where(after.over(x).noise == 0, nearer, wanted)
        weight = 1 / (ratio(level) - ratio(after))
        return Loss((weight * pseudo_huber(found - wanted, given.counted)).mean())

    def grid(self, levels: int) -> tuple[LevelGrid, Tensor]:
        """The levels, and how often each of them but the clean one is drawn."""
        if levels not in self._grids:
            grid = LevelGrid.of(self._levels(levels))
            sigma = ratio(grid.at(torch.arange(grid.steps + 1)))
            self._grids[levels] = grid, normal_shares(sigma, *self.log_normal)
        return self._grids[levels]

    def _levels(self, count: int) -> list[Level]:
        return self.head.process.grid(count, KARRAS)

    def _warn_of_rounding(self) -> None:
        asked = self.ends
        found = [len(self._levels(count)) - 1 for count in asked]
        if tuple(found) != asked:
            warnings.warn(
                f"of {asked[0]} to {asked[1]} noise levels (objective.first_levels, last_levels) "
                f"this process has {found[0]} to {found[1]}, since it rounds their times: "
                "policy.process.continuous=true of vp, flow and edm do not",
                stacklevel=3,
            )


def ratio(level: Level) -> Tensor:
    """noise / signal, sigma of Karras et al., 2022."""
    sigma: Tensor = level.noise / level.signal
    return sigma


def normal_shares(sigma: Tensor, mean: float, deviation: float) -> Tensor:
    """How much of a normal distribution of log(sigma) lies between each of [N + 1] falling values
    and the next one, [N] (Song & Dhariwal, 2023, section 3.5)."""
    below = torch.erf((sigma.double().log() - mean) / (math.sqrt(2) * deviation))
    return (below[:-1] - below[1:]).clamp(min=1e-12).float()
