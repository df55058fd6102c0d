"""Steps between noise levels of rows: the teacher's, and the student's jumps."""

from collections.abc import Callable

import torch
from torch import Tensor

from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import Estimate
from dipole.policy.diffusion.processes.base import Process
from dipole.policy.diffusion.solvers import Jump

Estimator = Callable[[Tensor, Level], Estimate]  # x [B, H, A], levels of rows -> what is said of it


class LevelGrid:
    """The levels at which a method trains, from the most noise to the clean chunk.

    process: Of the teacher and the student.
    steps: Between them; there are steps + 1 levels, the last clean.
    spacing: See `Process.grid`; None: the process's own, from the most noise on.
    """

    def __init__(self, process: Process, steps: int, spacing: str | None = None) -> None:
        levels = Jump(steps, spacing).levels(process)
        self.steps = len(levels) - 1
        rows = [[level.time, level.signal, level.noise] for level in levels]
        self._rows = torch.tensor(rows, dtype=torch.float32)  # [steps + 1, 3]

    def at(self, index: Tensor) -> Level:
        """The levels of rows, [B], by their indices; 0 is the most noise."""
        time, signal, noise = self._rows.to(index.device)[index].unbind(-1)
        return Level(time, signal, noise)

    def draw(self, rows: int, device: torch.device, last: int | None = None) -> Tensor:
        """Indices [B] of levels that are not clean, each as often. last: Below this one."""
        return torch.randint(self.steps if last is None else last, (rows,), device=device)


def moved(estimate: Estimate, x: Tensor, level: Level, after: Level) -> Tensor:
    """x [B, H, A] moved from `level` to `after`, levels of rows, to where an estimate leads:
    signal' clean + noise' / noise (x - signal clean). A step of length 0 leaves x as it is."""
    here, there = level.over(x), after.over(x)
    ratio = there.noise / here.noise
    found: Tensor = there.signal * estimate.clean + ratio * (x - here.signal * estimate.clean)
    return found


def ode_step(estimate: Estimator, x: Tensor, level: Level, after: Level, order: int = 1) -> Tensor:
    """x at `after` by the probability-flow ODE: Euler's method, or Heun's where order is 2 and
    `after` is not clean (Karras et al., 2022, algorithm 1)."""
    first = estimate(x, level)
    euler = moved(first, x, level, after)
    if order == 1:
        return euler
    here, there = level.over(x), after.over(x)
    is_clean = there.noise == 0
    least = torch.where(is_clean, torch.ones_like(there.noise), there.noise)
    second = estimate(euler, Level(after.time, after.signal, least.view(after.noise.shape)))
    slopes = [(x - here.signal * first.clean) / here.noise]
    slopes += [(euler - there.signal * second.clean) / least]
    clean_mean, noise_mean = (first.clean + second.clean) / 2, (slopes[0] + slopes[1]) / 2
    heun = x + (there.signal - here.signal) * clean_mean + (there.noise - here.noise) * noise_mean
    return torch.where(is_clean, euler, heun)
