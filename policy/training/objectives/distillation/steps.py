"""Steps between noise levels of rows: the teacher's, and the student's jumps."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import Estimate
from dipole.policy.diffusion.processes.base import Process
from dipole.policy.diffusion.solvers import Jump
from dipole.policy.heads.diffusion import DiffusionHead

MOST_SIGNAL = 0.005  # of a first level to its noise, above the most noise
Estimator = Callable[[Tensor, Level], Estimate]  # x [B, H, A], levels of rows -> what is said of it


class LevelGrid:
    """The levels at which a method trains, from the most noise to the clean chunk.

    process: Of the teacher and the student.
    steps: Between them; there are steps + 1 levels, the last clean.
    spacing: See `Process.grid`; None: the process's own, from the most noise on.
    """

    def __init__(self, process: Process, steps: int, spacing: str | None = None) -> None:
        check_start(process, spacing)
        try:
            levels = Jump(steps, spacing).levels(process)
        except ConfigError as error:
            raise ConfigError(
                f"the method asks for {steps} noise levels (of its options levels, stages or "
                f"steps), as `solver.steps` of a solver are: {error}"
            ) from error
        self._set(levels)
        if self.steps != steps:
            warnings.warn(
                f"of {steps} noise levels (objective.levels) with spacing {spacing!r} this process "
                f"has {self.steps}, since it rounds their times",
                stacklevel=3,
            )

    @classmethod
    def of(cls, levels: Sequence[Level]) -> "LevelGrid":
        """Of these levels, the last of them clean."""
        made = cls.__new__(cls)
        made._set(levels)
        return made

    def _set(self, levels: Sequence[Level]) -> None:
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


def check_start(process: Process, spacing: str | None) -> None:
    """Raises ConfigError for a spacing that does not begin at the most noise, as one jump does."""
    if _begins_at_the_most_noise(process, spacing):
        return
    fitting = [s for s in process.spacings(7.0, 3.0) if _begins_at_the_most_noise(process, s)]
    raise ConfigError(
        f"objective.spacing is {spacing!r}, whose levels do not begin at the most noise, where a "
        f"student's jumps do: choose {', '.join(fitting)}"
    )


def _begins_at_the_most_noise(process: Process, spacing: str | None) -> bool:
    with warnings.catch_warnings():  # of levels that chunks should not be drawn from: none is here
        warnings.simplefilter("ignore")
        first, most = (Jump(1, each).levels(process)[0] for each in (spacing, None))
    return bool(first.signal / first.noise <= most.signal / most.noise + MOST_SIGNAL)


def moved(estimate: Estimate, x: Tensor, level: Level, after: Level) -> Tensor:
    """x [B, H, A] moved from `level` to `after`, levels of rows, to where an estimate leads:
    signal' clean + noise' / noise (x - signal clean). A step of length 0 leaves x as it is, also
    where it is clean."""
    here, there = level.over(x), after.over(x)
    ratio = there.noise / _or_one(here.noise)
    found = there.signal * estimate.clean + ratio * (x - here.signal * estimate.clean)
    return torch.where(here.noise == 0, x, found)


def clean_towards(ended: Tensor, x: Tensor, level: Level, after: Level) -> Tensor:
    """The clean chunk with which a step from x at `level` to `after` ends at `ended`."""
    here, there = level.over(x), after.over(x)
    ratio = there.noise / here.noise
    wanted: Tensor = (ended - ratio * x) / (there.signal - ratio * here.signal)
    return wanted


def jump(
    head: DiffusionHead,
    x: Tensor,
    level: Level,
    after: Level,
    context: Context,
    scale: Tensor | None = None,
) -> Tensor:
    """x [B, H, A] at `after`, in one evaluation of a network that is told both levels of rows, [B]:
    G(x, t, s) of Kim et al., 2024. scale: Of guidance, [B], where it is told that too."""
    return moved(head.estimate_at(x, level, context, after, scale), x, level, after)


def ode_step(estimate: Estimator, x: Tensor, level: Level, after: Level, order: int = 1) -> Tensor:
    """x at `after` by the probability-flow ODE: Euler's method, or Heun's where order is 2 and
    `after` is not clean (Karras et al., 2022, algorithm 1). What is clean stays as it is."""
    first = estimate(x, level)
    euler = moved(first, x, level, after)
    if order == 1:
        return euler
    here, there = level.over(x), after.over(x)
    least = _or_one(there.noise)
    second = estimate(euler, Level(after.time, after.signal, least.view(after.noise.shape)))
    slopes = [(x - here.signal * first.clean) / _or_one(here.noise)]
    slopes += [(euler - there.signal * second.clean) / least]
    clean_mean, noise_mean = (first.clean + second.clean) / 2, (slopes[0] + slopes[1]) / 2
    heun = x + (there.signal - here.signal) * clean_mean + (there.noise - here.noise) * noise_mean
    return torch.where(there.noise == 0, euler, heun)


def _or_one(noise: Tensor) -> Tensor:
    """What may be divided by: 1 instead of 0."""
    return torch.where(noise == 0, torch.ones_like(noise), noise)
