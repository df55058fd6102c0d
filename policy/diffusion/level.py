"""A noise level: how much of the clean chunk and how much noise makes up x."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Level:
    """x = signal * clean + noise * epsilon, with epsilon standard normal.

    Floats in a solver's table; tensors, one for each row or token, in training.

    time: What the network is told.
    signal, noise: The two factors.
    """

    time: Any
    signal: Any
    noise: Any

    @property
    def log_snr(self) -> float:
        """log(signal / noise), half the logarithm of the signal-to-noise ratio; of floats."""
        if self.noise == 0:
            return math.inf
        return math.log(self.signal / self.noise) if self.signal else -math.inf

    @property
    def is_clean(self) -> bool:
        """Whether no noise is left; of floats."""
        return bool(self.noise == 0)

    def over(self, x: Tensor) -> "Level":
        """Tensors [B] or [B, H] made to spread over x [B, H, ...]."""
        ones = [1] * (x.dim() - self.signal.dim())
        signal, noise = (each.view(*each.shape, *ones) for each in (self.signal, self.noise))
        return Level(self.time, signal, noise)

    def mix(self, clean: Tensor, noise: Tensor) -> Tensor:
        """The forward process: x of this level (Ho et al., 2020, eq. 4)."""
        mixed: Tensor = self.signal * clean + self.noise * noise
        return mixed
