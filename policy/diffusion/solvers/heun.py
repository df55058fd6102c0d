"""Heun's method: a step, a look from where it leads, and the step again with the mean slope."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from dipole.policy.core.components import SOLVERS
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.solvers.base import Solver, SolverStep
from dipole.policy.diffusion.solvers.euler import euler_step


@SOLVERS.add("heun")
@dataclass(frozen=True)
class Heun(Solver):
    """Second order, the trapezoidal rule (Karras et al., 2022, algorithm 1, without churn).

    Two evaluations of the network a step, one in the last: 2 * steps - 1.
    """

    name: ClassVar[str] = "heun"

    def table(self, levels: Sequence[Level]) -> list[SolverStep]:
        rows: list[SolverStep] = []
        for level, after in pairwise(levels):
            rows.append(euler_step(level, after))
            if not after.is_clean:
                rows.append(_corrected(level, after))
        return rows


def _corrected(before: Level, level: Level) -> SolverStep:
    """From `before`, whose x is the evaluation before's, to `level`, where x is now.

    x' = x_1 + d(signal) (clean_0 + clean_1) / 2 + d(noise) (epsilon_0 + epsilon_1) / 2, each
    epsilon being (x - signal clean) / noise of its own evaluation.
    """
    half_signal = (level.signal - before.signal) / 2
    half_noise = (level.noise - before.noise) / 2
    return SolverStep(
        level,
        level,
        from_x=(half_noise / level.noise, 1 + half_noise / before.noise),
        from_clean=(
            half_signal - half_noise * level.signal / level.noise,
            half_signal - half_noise * before.signal / before.noise,
        ),
        begin=before,
    )
