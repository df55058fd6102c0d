"""Jumps of networks that were trained to make them: one evaluation from noise to a chunk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import SOLVERS
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.processes.base import Process
from dipole.policy.diffusion.solvers.base import Solver, SolverStep
from dipole.policy.diffusion.solvers.euler import euler_step

ROUNDING = 1e-6  # of a jump's length


@dataclass(frozen=True)
class Landing(Level):
    """A level that is reached by a jump to `before`, and noise put back.

    before: The level of less noise, or the same.
    """

    before: Level


@SOLVERS.add("jump")
@dataclass(frozen=True)
class Jump(Solver):
    """Jump towards the next level, and put noise back up to it: the sampling of consistency models
    (Song et al., 2023, algorithm 1: gamma 1), of consistency trajectory models (Kim et al., 2024,
    algorithm 2: any gamma), of shortcut models and mean flows (gamma 0).

    A jump is x' = signal' clean + noise' / noise (x - signal clean), with what the network says of
    the clean chunk when it is asked for that jump.

    steps: Jumps; one evaluation of the network each.
    gamma: 0: each jump ends where the next one begins, so that the noise at the beginning decides;
        1: each ends at the clean chunk, whatever the network is told. Between them, at
        sqrt(1 - gamma^2) of the next level's noise / signal.
    finest: Of networks that learned no jumps shorter than 2 / finest of the way, in noise / (signal
        + noise), and of no length in place of 1 / finest (shortcut models): they are asked for
        jumps of 1 / finest and less as of no length. None: for every jump as it is.

    The levels of n jumps are every second one of 2 n jumps: of a spacing that ends at the least
    noise (`Process.to_the_least`) that level is left out, from which a jump would lead nowhere.
    """

    name: ClassVar[str] = "jump"

    steps: int = 1
    gamma: float = 0.0
    finest: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.gamma <= 1:
            raise ConfigError(f"solver.gamma is {self.gamma}: it lies between 0 and 1")
        if self.finest is not None and self.finest < 1:
            raise ConfigError(f"solver.finest is {self.finest}: at least one is needed")

    def levels(self, process: Process) -> list[Level]:
        first, *rest = self._grid(process)
        return [first, *(self._landing(level, process) for level in rest)]

    def _grid(self, process: Process) -> list[Level]:
        spacing = process.full_spacing if self.spacing is None else self.spacing
        if spacing not in process.to_the_least:
            return process.grid(self.steps, spacing, rho=self.rho, shift=self.shift)
        *levels, _, clean = process.grid(self.steps + 1, spacing, rho=self.rho, shift=self.shift)
        return [*levels, clean]

    def table(self, levels: Sequence[Level]) -> list[SolverStep]:
        rows = [_jump(level, after) for level, after in pairwise(levels)]
        return [replace(row, target=None) if self._is_short(row) else row for row in rows]

    def _is_short(self, row: SolverStep) -> bool:
        if self.finest is None or row.target is None:
            return False
        first, last = (each.noise / (each.signal + each.noise) for each in (row.level, row.target))
        return bool(first - last < (1 + ROUNDING) / self.finest)

    def _landing(self, level: Level, process: Process) -> Landing:
        kept = math.sqrt(1 - self.gamma**2)
        before = level
        if kept < 1 and not level.is_clean:
            before = process.at_ratio(kept * level.noise / level.signal)
        return Landing(level.time, level.signal, level.noise, before)


def _jump(level: Level, after: Level) -> SolverStep:
    before = after.before if isinstance(after, Landing) else after
    rise = after.signal / before.signal
    fresh = math.sqrt(max(after.noise**2 - (rise * before.noise) ** 2, 0.0))
    plain = euler_step(level, before)
    return SolverStep(
        level,
        after,
        from_x=tuple(rise * weight for weight in plain.from_x),
        from_clean=tuple(rise * weight for weight in plain.from_clean),
        fresh_noise=fresh,
        target=before,
    )
