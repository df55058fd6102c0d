"""DPM-Solver++: multistep solvers of the clean chunk over the log-SNR."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from dipole.policy.core.components import SOLVERS
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.solvers.base import Solver, SolverStep


@dataclass(frozen=True)
class _DPMSolverPP(Solver):
    """With lambda = log(signal / noise), h its step, D0, D1, D2 the clean chunk and its divided
    differences over the last evaluations (Lu et al., 2022, arXiv 2211.01095, section 4).

    sde: With fresh noise (its SDE form), which forgets errors of earlier steps.
    """

    order: ClassVar[int]

    sde: bool = False

    def table(self, levels: Sequence[Level]) -> list[SolverStep]:
        pairs = list(pairwise(levels))
        last = len(pairs) - 1
        rows = []
        for number, (level, after) in enumerate(pairs):
            # Of lower order where too few evaluations were made, and in the last steps, whose h
            # is large or infinite.
            order = min(self.order, number + 1, last - number + 1)
            earlier = levels[max(0, number - order + 1) : number + 1][::-1]
            rows.append(self._step(level, after, earlier))
        return rows

    def _step(self, level: Level, after: Level, earlier: Sequence[Level]) -> SolverStep:
        """earlier: Levels of the evaluations that count, newest first."""
        h = after.log_snr - level.log_snr
        decay = math.exp(-h)  # 0 in a step to the clean chunk, or from pure noise
        ratio = after.noise / level.noise
        if self.sde:
            from_x, fresh = ratio * decay, after.noise * math.sqrt(1 - decay**2)
            factors = self._factors(len(earlier), 2 * h)
        else:
            from_x, fresh = ratio, 0.0
            factors = self._factors(len(earlier), h)
        weights = _of_evaluations(factors, h, [each.log_snr for each in earlier])
        from_clean = tuple(after.signal * weight for weight in weights)
        return SolverStep(level, after, (from_x,), from_clean, (), fresh)

    def _factors(self, order: int, h: float) -> list[float]:
        """What D0, D1 and D2 are multiplied by, without the signal; h: twice as much of the SDE.

        The integrals over the step of exp(s - h), its length being h, times 1, s / h, (s / h)².
        """
        if math.isinf(h):
            return [1.0, 0.0, 0.0][:order]
        rise = -math.expm1(-h)
        if order < 3:  # the midpoint rule
            return [rise, rise / 2][:order]
        first = 1 - rise / h
        return [rise, first, 1 - 2 * first / h]


@SOLVERS.add("dpmpp_2m")
@dataclass(frozen=True)
class DPMSolverPP2M(_DPMSolverPP):
    """Second order, one evaluation a step."""

    name: ClassVar[str] = "dpmpp_2m"
    order: ClassVar[int] = 2


@SOLVERS.add("dpmpp_3m")
@dataclass(frozen=True)
class DPMSolverPP3M(_DPMSolverPP):
    """Third order, one evaluation a step.

    published: Count the second difference half, as the authors' code, k-diffusion and diffusers do.
        Errors then fall as those of second order, but large steps overshoot less.
    """

    name: ClassVar[str] = "dpmpp_3m"
    order: ClassVar[int] = 3

    published: bool = False

    def _factors(self, order: int, h: float) -> list[float]:
        factors = super()._factors(order, h)
        if order == 3 and self.published:
            factors[2] /= 2
        return factors


def _of_evaluations(factors: Sequence[float], h: float, log_snr: Sequence[float]) -> list[float]:
    """The weights of the clean chunks, newest first, in sum_k factors[k] D_k.

    With r0 = (l0 - l1) / h and r1 = (l1 - l2) / h: D0 = m0, A = (m0 - m1) / r0,
    B = (m1 - m2) / r1; of second order D1 = A, of third D1 = A + r0 / (r0 + r1) (A - B) and
    D2 = (A - B) / (r0 + r1).
    """
    if len(factors) == 1:
        return list(factors)
    inverse = [h / (one - other) for one, other in pairwise(log_snr)]  # 1 / r0, 1 / r1
    if len(factors) == 2:
        change = factors[1] * inverse[0]
        return [factors[0] + change, -change]
    r0, r1 = (1 / each if each else math.inf for each in inverse)
    total = r0 + r1
    share = r0 / total  # 0 where r1 is infinite: from pure noise
    of_a = factors[1] * (1 + share) + factors[2] / total
    of_b = -factors[1] * share - factors[2] / total
    first, second = of_a * inverse[0], of_b * inverse[1]
    return [factors[0] + first, second - first, -second]
