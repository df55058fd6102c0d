"""Ancestral sampling."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from dipole.policy.core.components import SOLVERS
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.solvers.base import Solver, SolverStep


def added_variance(level: Level, after: Level) -> float:
    """Variance of the noise that the process adds from `after` to `level`."""
    left: float = (level.signal / after.signal * after.noise) ** 2
    return max(float(level.noise) ** 2 - left, 0.0)


@SOLVERS.add("ddpm")
@dataclass(frozen=True)
class DDPM(Solver):
    """The posterior of the level below, given x and the clean chunk (Ho et al., 2020, eq. 6, 7).

    With fresh noise in all steps but the last. On a process that is not variance-preserving it is
    the same posterior of its own Gaussians.
    """

    name: ClassVar[str] = "ddpm"

    steps: int = 100

    def table(self, levels: Sequence[Level]) -> list[SolverStep]:
        return [_step(level, after) for level, after in pairwise(levels)]


def _step(level: Level, after: Level) -> SolverStep:
    added = added_variance(level, after)
    share = added / level.noise**2
    return SolverStep(
        level,
        after,
        from_x=(level.signal / after.signal * after.noise**2 / level.noise**2,),
        from_clean=(after.signal * share,),
        fresh_noise=after.noise * math.sqrt(share),
    )
