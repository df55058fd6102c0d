"""What a noise process is: which levels of noise there are, in training and in sampling."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.policy.diffusion.level import Level

Spacing = Callable[[int], list[float]]
TRAILING = "trailing"  # of tables: from the most noise on


class Process(nn.Module):
    """Between a chunk and noise: x(t) = signal(t) * clean + noise(t) * epsilon.

    t is the process's own time, larger for more noise; each process says in which range. Networks
    are told a `Level.time` instead, of about 0 to 100 in all processes, which timestep embeddings
    resolve.

    default_prediction, default_spacing: What is taken where a configuration names none.
    to_the_least: Spacings whose last level is always the least noise, so that the step from there
        to the clean chunk is next to none.
    clean: The level without noise, with the time of the least noise: known tokens have it.
    """

    default_prediction: str
    default_spacing: str
    to_the_least: ClassVar[frozenset[str]] = frozenset({"karras", "log_snr"})
    clean: Level

    def level(self, t: Tensor) -> Level:
        """The levels at times t, of any shape; signal and noise have its shape."""
        raise NotImplementedError

    def sample_times(self, shape: Sequence[int], device: torch.device | str) -> Tensor:
        """Times to train at, of this shape, from torch's global generator."""
        raise NotImplementedError

    def weight(self, level: Level) -> Tensor | None:
        """What the squared error at a level is multiplied by; None: 1."""
        return None

    def spacings(self, rho: float, shift: float) -> dict[str, Spacing]:
        """By name: number of steps -> times of their beginnings, from the most noise on."""
        raise NotImplementedError

    @property
    def full_spacing(self) -> str:
        """The spacing that begins at the most noise, however many levels there are: "trailing"
        where there is one, otherwise the process's own."""
        return TRAILING if TRAILING in self.spacings(7.0, 3.0) else self.default_spacing

    def times_of(self, ratios: Sequence[float]) -> list[float]:
        """The times at which noise / signal has these values; where times are a table's, the
        nearest ones, each once."""
        raise NotImplementedError

    def at_ratio(self, ratio: float) -> Level:
        """The level at which noise / signal is this, or the nearest one of a table, in floats."""
        return self.clean if ratio == 0 else self._levels(self.times_of([ratio]))[0]

    def grid(
        self, steps: int, spacing: str | None = None, *, rho: float = 7.0, shift: float = 3.0
    ) -> list[Level]:
        """The levels that a solver visits, in floats: `steps` of them, and the clean one.

        steps: How many; fewer are given where a table has no more.
        spacing: Where they lie; None: the process's own.
        rho: Of spacing "karras" (Karras et al., 2022, eq. 5).
        shift: Of spacing "shifted" (Esser et al., 2024, eq. 23).
        Raises ConfigError for a spacing or a number of steps that the process does not have.
        """
        name = self.default_spacing if spacing is None else spacing
        known = self.spacings(rho, shift)
        if name not in known:
            raise ConfigError(
                f"solver.spacing is {name!r}{nearest(name, known) or ';'} "
                f"this process has {', '.join(known)}"
            )
        return [*self._levels(known[name](steps)), self.clean]

    def _levels(self, times: Sequence[float]) -> list[Level]:
        """In floats."""
        device = next((buffer.device for buffer in self.buffers()), torch.device("cpu"))
        levels = self.level(torch.tensor(times, dtype=torch.float64, device=device))
        numbers = (each.double().tolist() for each in (levels.time, levels.signal, levels.noise))
        return [Level(*level) for level in zip(*numbers, strict=True)]

    def start_scale(self, level: Level) -> float:
        """The standard deviation of x at a level from which sampling begins with noise alone."""
        return float(level.noise)


def karras(largest: float, least: float, steps: int, rho: float) -> list[float]:
    """Noise levels, denser towards the least one (Karras et al., 2022, eq. 5), largest first."""
    if steps == 1:
        return [largest]
    ends = largest ** (1 / rho), least ** (1 / rho)
    return [(ends[0] + i / (steps - 1) * (ends[1] - ends[0])) ** rho for i in range(steps)]


def evenly(first: float, last: float, steps: int) -> list[float]:
    """Numbers from first to last, both among them."""
    if steps == 1:
        return [first]
    return [first + i / (steps - 1) * (last - first) for i in range(steps)]


def geometric(largest: float, least: float, steps: int) -> list[float]:
    """Positive numbers whose logarithms are evenly spaced, largest first."""
    return [math.exp(each) for each in evenly(math.log(largest), math.log(least), steps)]
