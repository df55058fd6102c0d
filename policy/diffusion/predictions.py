"""What a network predicts, and what that says about the clean chunk and the noise in x.

Everything here is arithmetic over x = signal * clean + noise * epsilon: it serves floats and
tensors, rows and tokens, any process.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import PREDICTIONS
from dipole.policy.diffusion.level import Level

LEAST = 1e-4  # that is divided by: signal at pure noise, noise at the clean chunk


class Estimate(NamedTuple):
    """What is made of a network's output at x: the clean chunk and the noise, both [B, H, A]."""

    clean: Tensor
    noise: Tensor


class Prediction:
    """How a network's input and output are to be read. Levels spread over x: see `Level.over`."""

    def network_input(self, x: Tensor, level: Level) -> Tensor:
        """What the network is given of x [B, H, A]."""
        return x

    def target(self, clean: Tensor, noise: Tensor, level: Level) -> Tensor:
        """What the network should have said of the x made of these."""
        raise NotImplementedError

    def estimate(self, output: Tensor, x: Tensor, level: Level) -> Estimate:
        """The clean chunk and the noise that make up x, by the network's output."""
        raise NotImplementedError


@PREDICTIONS.add("noise")
class NoisePrediction(Prediction):
    """epsilon (Ho et al., 2020)."""

    def target(self, clean: Tensor, noise: Tensor, level: Level) -> Tensor:
        return noise

    def estimate(self, output: Tensor, x: Tensor, level: Level) -> Estimate:
        return Estimate((x - level.noise * output) / _at_least(level.signal), output)


@PREDICTIONS.add("sample")
class SamplePrediction(Prediction):
    """The clean chunk."""

    def target(self, clean: Tensor, noise: Tensor, level: Level) -> Tensor:
        return clean

    def estimate(self, output: Tensor, x: Tensor, level: Level) -> Estimate:
        return Estimate(output, noise_in(x, output, level))


@PREDICTIONS.add("v")
class VPrediction(Prediction):
    """signal * epsilon - noise * clean (Salimans & Ho, 2022, appendix D)."""

    def target(self, clean: Tensor, noise: Tensor, level: Level) -> Tensor:
        v: Tensor = level.signal * noise - level.noise * clean
        return v

    def estimate(self, output: Tensor, x: Tensor, level: Level) -> Estimate:
        length = level.signal**2 + level.noise**2  # 1 where the process preserves variance
        clean = (level.signal * x - level.noise * output) / length
        return Estimate(clean, (level.signal * output + level.noise * x) / length)


@PREDICTIONS.add("velocity")
class VelocityPrediction(Prediction):
    """epsilon - clean, dx/dt of the straight path (Liu et al., 2023)."""

    def target(self, clean: Tensor, noise: Tensor, level: Level) -> Tensor:
        return noise - clean

    def estimate(self, output: Tensor, x: Tensor, level: Level) -> Estimate:
        whole = level.signal + level.noise  # 1 on the straight path
        return Estimate((x - level.noise * output) / whole, (x + level.signal * output) / whole)


@PREDICTIONS.add("edm")
@dataclass(frozen=True)
class PreconditionedPrediction(Prediction):
    """The clean chunk out of input and output of unit variance (Karras et al., 2022, table 1).

    With s = signal, n = noise, d = sigma_data and r² = n² + s² d²:
    clean = (s d² / r²) x + (n d / r) F(x / r).

    sigma_data: Standard deviation of normalised actions, d.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not self.sigma_data > 0:
            raise ConfigError(
                f"policy.prediction.sigma_data is {self.sigma_data}: it must be positive"
            )

    def network_input(self, x: Tensor, level: Level) -> Tensor:
        scaled: Tensor = x / self._root(level)
        return scaled

    def target(self, clean: Tensor, noise: Tensor, level: Level) -> Tensor:
        skip, out = self._factors(level)
        target: Tensor = (clean - skip * level.mix(clean, noise)) / _at_least(out)
        return target

    def estimate(self, output: Tensor, x: Tensor, level: Level) -> Estimate:
        skip, out = self._factors(level)
        clean = skip * x + out * output
        return Estimate(clean, noise_in(x, clean, level))

    def _root(self, level: Level) -> Any:
        squared = level.noise**2 + (level.signal * self.sigma_data) ** 2
        return squared.sqrt() if isinstance(squared, Tensor) else math.sqrt(squared)

    def _factors(self, level: Level) -> tuple[Any, Any]:
        root = self._root(level)
        skip = level.signal * self.sigma_data**2 / root**2
        return skip, level.noise * self.sigma_data / root


def noise_in(x: Tensor, clean: Tensor, level: Level) -> Tensor:
    """The noise that makes x of this clean chunk."""
    noise: Tensor = (x - level.signal * clean) / _at_least(level.noise)
    return noise


def _at_least(value: Any) -> Any:
    return value.clamp(min=LEAST) if isinstance(value, Tensor) else max(value, LEAST)


def clipped(estimate: Estimate, wanted: bool) -> Estimate:
    """With the clean chunk within [-1, 1], where that is wanted."""
    return Estimate(torch.clamp(estimate.clean, -1, 1), estimate.noise) if wanted else estimate
