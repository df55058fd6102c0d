"""Variance-preserving diffusion: the published tables of DDPM, and times between their entries."""

import math
import warnings
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.policy.core.components import PROCESSES
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.processes.base import Process, Spacing, evenly, geometric, karras

SCHEDULES = ("squaredcos_cap_v2", "linear", "scaled_linear")
LARGEST_BETA = 0.999
# Of signal / noise where sampling begins with noise alone, above that of the last level. The ten
# levels that diffusion policies were published with, of the cosine table, are just below.
MOST_SIGNAL = 0.16


@PROCESSES.add("vp")
class VariancePreserving(Process):
    """signal² + noise² = 1 (DDPM: Ho et al., 2020). t: index of a noise level, 0 to T - 1.

    schedule: Which table of betas, in diffusers' terms.
    num_train_timesteps: Noise levels of training, T.
    continuous: Train at times between the levels too, whose log-SNR is interpolated.
    beta_start, beta_end: Of "linear" and "scaled_linear".
    """

    alphas_cumprod: Tensor
    default_prediction = "noise"
    default_spacing = "leading"
    to_the_least = Process.to_the_least | {"uniform"}
    clean = Level(0.0, 1.0, 0.0)

    def __init__(
        self,
        schedule: str = "squaredcos_cap_v2",
        num_train_timesteps: int = 100,
        continuous: bool = False,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
    ) -> None:
        super().__init__()
        if schedule not in SCHEDULES:
            raise ConfigError(
                f"policy.process.schedule is {schedule!r}{nearest(schedule, SCHEDULES) or ';'} "
                f"known: {', '.join(SCHEDULES)}"
            )
        if num_train_timesteps < 2:
            raise ConfigError(
                f"policy.process.num_train_timesteps is {num_train_timesteps}: "
                "at least 2 noise levels are needed"
            )
        if not 0 < beta_start <= beta_end < 1:
            raise ConfigError(
                f"policy.process.beta_start is {beta_start} and beta_end {beta_end}: "
                "0 < beta_start <= beta_end < 1 is needed"
            )
        self.num_train_timesteps, self.continuous = num_train_timesteps, continuous
        betas = _betas(schedule, num_train_timesteps, beta_start, beta_end)
        # Among the weights, so that a trained policy keeps what it was trained with.
        self.register_buffer("alphas_cumprod", torch.cumprod(1.0 - betas, dim=0))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "VariancePreserving":
        """Keep the noise levels in single precision at least: bf16 rounds the first one to 1."""
        kept = self.alphas_cumprod
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if torch.finfo(self.alphas_cumprod.dtype).bits < torch.finfo(kept.dtype).bits:
            self.alphas_cumprod = kept.to(self.alphas_cumprod.device)
        return self

    def level(self, t: Tensor) -> Level:
        if not t.is_floating_point():
            kept = self.alphas_cumprod[t]
            return Level(t, kept.sqrt(), (1 - kept).sqrt())
        below = t.floor().clamp(0, self.num_train_timesteps - 2).long()
        table = self.alphas_cumprod.double()
        log_ratios = torch.log(table) - torch.log1p(-table)  # of signal² to noise²
        share = t.double() - below
        between = torch.lerp(log_ratios[below], log_ratios[below + 1], share)
        exact = torch.where(share == 0, table[below], torch.sigmoid(between))
        kept = torch.where(share == 1, table[below + 1], exact)
        signal, noise = kept.sqrt(), (1 - kept).sqrt()
        return Level(t, *(each.to(t.dtype) for each in (signal, noise)))

    def sample_times(self, shape: Sequence[int], device: torch.device | str) -> Tensor:
        if self.continuous:
            return torch.rand(tuple(shape), device=device) * (self.num_train_timesteps - 1)
        return torch.randint(self.num_train_timesteps, tuple(shape), device=device)

    def start_scale(self, level: Level) -> float:
        return 1.0

    def spacings(self, rho: float, shift: float) -> dict[str, Spacing]:
        last = self.num_train_timesteps - 1
        return {
            "leading": self._leading,
            "trailing": self._trailing,
            "uniform": lambda steps: evenly(last, 0, self._checked(steps)),
            "karras": lambda steps: self.times_of(karras(*self._ratios(), steps, rho)),
            "log_snr": lambda steps: self.times_of(geometric(*self._ratios(), steps)),
        }

    def _checked(self, steps: int) -> int:
        if steps > self.num_train_timesteps:
            raise ConfigError(
                f"solver.steps is {steps}, but the policy knows {self.num_train_timesteps} noise "
                "levels"
            )
        return steps

    def _leading(self, steps: int) -> list[float]:
        """Multiples of a whole stride, down to 0, as diffusers' "leading" without an offset.

        Warns where the first of them is so far below the last level that chunks drawn from noise
        alone have another distribution.
        """
        count = self.num_train_timesteps
        stride = count // self._checked(steps)
        first = (steps - 1) * stride
        if self._surplus(first) > MOST_SIGNAL:
            fitting = [n for n in range(1, count + 1) if count % n == 0]
            fitting = [n for n in fitting if self._surplus(count - count // n) <= MOST_SIGNAL]
            warnings.warn(
                f"{steps} steps of spacing 'leading' begin at level {first} of 0 to {count - 1}, "
                "where x is to have some of the chunk, with noise alone: chunks will have another "
                "distribution than the policy's. Take solver.spacing=trailing, or a solver.steps "
                f"of {', '.join(map(str, fitting))}",
                stacklevel=2,
            )
        return [float(i * stride) for i in reversed(range(steps))]

    def _surplus(self, number: int) -> float:
        """signal / noise at a level, above that at the last one."""
        here, last = (self.alphas_cumprod[each].item() for each in (number, -1))
        return math.sqrt(here / (1 - here)) - math.sqrt(last / (1 - last))

    def _trailing(self, steps: int) -> list[float]:
        """From the last level on, rounded as diffusers' "trailing": levels half-way between two
        depend on arange's own error."""
        count = self.num_train_timesteps
        levels = np.round(np.arange(count, 0, -count / self._checked(steps))).astype(np.int64) - 1
        return [float(level) for level in levels if level >= 0]  # arange may overshoot by one

    def _ratios(self) -> tuple[float, float]:
        """noise / signal at the level of most and of least noise."""
        most, least = self.alphas_cumprod[-1].item(), self.alphas_cumprod[0].item()
        return math.sqrt((1 - most) / most), math.sqrt((1 - least) / least)

    def times_of(self, ratios: Sequence[float]) -> list[float]:
        """Whole ones unless times are continuous, each at most once."""
        table: list[float] = self.alphas_cumprod.double().tolist()
        logs = [math.log((1 - kept) / kept) / 2 for kept in table]  # of noise / signal, rising
        times = [_inverse(logs, math.log(ratio)) for ratio in ratios]
        if self.continuous:
            return times
        return [float(time) for time in dict.fromkeys(round(time) for time in times)]


def _inverse(rising: list[float], value: float) -> float:
    """The index, with a fraction, at which a table has this value."""
    if value <= rising[0]:
        return 0.0
    if value >= rising[-1]:
        return float(len(rising) - 1)
    above = bisect_left(rising, value)
    step = rising[above] - rising[above - 1]
    return above - (rising[above] - value) / step


def _betas(schedule: str, steps: int, start: float, end: float) -> Tensor:
    """How much of the variance each step replaces by noise, [T], the same bits as diffusers'."""
    with torch.device("cpu"):
        if schedule == "linear":
            return torch.linspace(start, end, steps)
        if schedule == "scaled_linear":  # linear in the standard deviation
            return torch.linspace(start**0.5, end**0.5, steps) ** 2
        shares = [index / steps for index in range(steps + 1)]
        pairs: Any = pairwise(shares)
        return torch.tensor(
            [min(1 - _cosine(after) / _cosine(before), LARGEST_BETA) for before, after in pairs]
        )


def _cosine(share: float) -> float:
    """The signal's variance after this share of the steps (Nichol & Dhariwal, 2021, eq. 17)."""
    return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2
