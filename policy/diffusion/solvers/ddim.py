"""Implicit sampling, with as much fresh noise as wanted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import SOLVERS
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.solvers.base import Solver, SolverStep
from dipole.policy.diffusion.solvers.ddpm import added_variance


@SOLVERS.add("ddim")
@dataclass(frozen=True)
class DDIM(Solver):
    """x' = signal' clean + noise' epsilon (Song et al., 2021, eq. 12).

    Every step ends at the level at which the next one begins, and the last at the clean one. That
    is diffusers' step with leading spacing, and with trailing spacing where the levels are a
    multiple of the steps. Elsewhere diffusers goes down by one whole stride from levels that lie
    further apart, and leaves noise in the chunk.

    eta: Fresh noise: 0 none, so that the noise at the beginning decides; 1 as much as DDPM.
    """

    name: ClassVar[str] = "ddim"

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"solver.eta is {self.eta}: it lies between 0 and 1")

    def table(self, levels: Sequence[Level]) -> list[SolverStep]:
        return [self._step(level, after) for level, after in pairwise(levels)]

    def _step(self, level: Level, after: Level) -> SolverStep:
        variance = (after.noise / level.noise) ** 2 * added_variance(level, after)
        fresh = self.eta * math.sqrt(variance)
        return SolverStep(
            level,
            after,
            from_clean=(after.signal,),
            from_noise=(math.sqrt(max(after.noise**2 - fresh**2, 0.0)),),
            fresh_noise=fresh,
        )
