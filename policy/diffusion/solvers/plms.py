"""Pseudo linear multistep sampling."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from dipole.policy.core.components import SOLVERS
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.solvers.base import Solver, SolverStep

# Adams-Bashforth, newest first, by how many noises there are.
WEIGHTS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@SOLVERS.add("plms")
@dataclass(frozen=True)
class PLMS(Solver):
    """DDIM's step with a mean of the last four noises (PNDM: Liu et al., 2022, eq. 12).

    Its first step is made twice, the second time with the mean of the noises at its two ends, as
    in diffusers' PNDM without Runge-Kutta steps: steps + 1 evaluations. Not where it begins without
    any signal, as on the straight path: there it begins with a plain step.
    """

    name: ClassVar[str] = "plms"

    def table(self, levels: Sequence[Level]) -> list[SolverStep]:
        rows: list[SolverStep] = []
        history: list[int] = []  # numbers of the evaluations whose noises count, newest first
        for number, (level, after) in enumerate(pairwise(levels)):
            if number == 0:
                first = SolverStep(
                    level, after, from_clean=(after.signal,), from_noise=(after.noise,)
                )
                rows.append(first)
                if level.signal > 0 and not after.is_clean:
                    x, noise = _transfer(level, after)
                    rows.append(SolverStep(after, after, (0.0, x), (), (noise / 2, noise / 2)))
                history = [0]
                continue
            history = [len(rows), *history][: len(WEIGHTS)]
            x, noise = _transfer(level, after)
            weights = [0.0] * (1 + len(rows) - history[-1])
            for evaluation, weight in zip(history, WEIGHTS[len(history) - 1], strict=True):
                weights[len(rows) - evaluation] = noise * weight
            rows.append(SolverStep(level, after, (x,), (), tuple(weights)))
        return rows


def _transfer(level: Level, after: Level) -> tuple[float, float]:
    """x' = a x + b epsilon, with the clean chunk that x and epsilon say."""
    ratio = after.signal / level.signal
    return ratio, after.noise - ratio * level.noise
