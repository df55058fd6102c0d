"""Pseudo linear multistep sampling."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from dipole.policy.core.components import SOLVERS
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.solvers.base import Solver, SolverStep
from dipole.policy.diffusion.solvers.euler import euler_step

# Adams-Bashforth, newest first, by how many noises there are.
WEIGHTS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)

LARGEST_RISE = 10.0  # of the signal, in a step by a mean of noises


@SOLVERS.add("plms")
@dataclass(frozen=True)
class PLMS(Solver):
    """Euler's step with a mean of the last four noises (PNDM: Liu et al., 2022, eq. 12).

    Its first step is made twice, the second time with the mean of the noises at its two ends, as
    in diffusers' PNDM without Runge-Kutta steps: steps + 1 evaluations, or steps where it is a
    plain one (below).

    A mean of noises is not the noise of this x, and what it leaves out counts signal' / signal
    times. Steps that begin with hardly any signal, as the first one on the straight path, are
    therefore plain ones.

    A noise is what is left of x without the clean chunk: where that is clipped, the network's own
    errors, which count noise / signal times, are clipped with it. See `Euler`.
    """

    name: ClassVar[str] = "plms"

    def table(self, levels: Sequence[Level]) -> list[SolverStep]:
        rows: list[SolverStep] = []
        history: list[int] = []  # numbers of the evaluations whose noises count, newest first
        for number, (level, after) in enumerate(pairwise(levels)):
            history = [len(rows), *history][: len(WEIGHTS)]
            plain = after.signal > LARGEST_RISE * level.signal
            if number == 0 or plain:
                rows.append(euler_step(level, after))
                if not plain and not after.is_clean:
                    rows.append(_twice(level, after))
                continue
            ages = [len(rows) - evaluation for evaluation in history]
            seen = [level, *(rows[evaluation].level for evaluation in history[1:])]
            weights = WEIGHTS[len(history) - 1]
            rows.append(
                _mean_step(level, after, level, 0, list(zip(ages, seen, weights, strict=True)))
            )
        return rows


def _twice(level: Level, after: Level) -> SolverStep:
    """The first step again, from the x of the evaluation before, now that x is at its end."""
    return _mean_step(level, after, after, 1, [(0, after, 0.5), (1, level, 0.5)])


def _mean_step(
    level: Level,
    after: Level,
    evaluated: Level,
    age: int,
    noises: Sequence[tuple[int, Level, float]],
) -> SolverStep:
    """x' = (signal' / signal) x + (noise' - signal' / signal noise) mean, from `level` to `after`.

    evaluated: Where this row's evaluation is.
    age: Of the evaluation whose x is at `level`; 0 is this one.
    noises: Age, level and weight of each of the mean; of x and clean, (x - signal clean) / noise.
    """
    rise = after.signal / level.signal
    factor = after.noise - rise * level.noise
    from_x = [0.0] * (1 + max(age, *(each for each, _, _ in noises)))
    from_clean = list(from_x)
    from_x[age] += rise
    for each, seen, weight in noises:
        from_x[each] += factor * weight / seen.noise
        from_clean[each] -= factor * weight * seen.signal / seen.noise
    begin = None if evaluated is level else level
    return SolverStep(evaluated, after, tuple(from_x), tuple(from_clean), begin=begin)
