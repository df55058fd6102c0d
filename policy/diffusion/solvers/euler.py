"""Euler's method on the probability-flow ODE."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from dipole.policy.core.components import SOLVERS
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.solvers.base import Solver, SolverStep


@SOLVERS.add("euler")
@dataclass(frozen=True)
class Euler(Solver):
    """One step of dx = clean d(signal) + epsilon d(noise), the ODE of any process.

    epsilon is what is left of x without the clean chunk, so that where that is clipped both still
    make up x; DDIM keeps the network's own. Without clipping the two are the same. In noise levels
    this is the Euler step of Karras et al., 2022; on the straight path x' = x + (t' - t) velocity.
    """

    name: ClassVar[str] = "euler"

    def table(self, levels: Sequence[Level]) -> list[SolverStep]:
        return [euler_step(level, after) for level, after in pairwise(levels)]


def euler_step(level: Level, after: Level) -> SolverStep:
    ratio = after.noise / level.noise
    return SolverStep(
        level, after, from_x=(ratio,), from_clean=(after.signal - level.signal * ratio,)
    )
