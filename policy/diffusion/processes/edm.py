"""Variance-exploding diffusion as designed by Karras et al., 2022 (arXiv 2206.00364)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import PROCESSES
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.processes.base import Process, Spacing, geometric, karras

TIME_SCALE = 100.0  # of what the network is told, from sigma_min to sigma_max


@PROCESSES.add("edm")
class EDM(Process):
    """x = clean + sigma * epsilon. t is sigma.

    The network is told log(sigma), scaled so that sigma_min to sigma_max are 0 to 100; the paper's
    c_noise is a quarter of the logarithm.

    sigma_min, sigma_max: Ends of the grid of sampling.
    sigma_mean, sigma_std: Of log(sigma) in training, which is normal (table 1: P_mean, P_std).
    """

    default_prediction = "edm"
    default_spacing = "karras"

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        sigma_mean: float = -1.2,
        sigma_std: float = 1.2,
    ) -> None:
        super().__init__()
        if not 0 < sigma_min < sigma_max < math.inf:
            raise ConfigError(
                f"policy.process.sigma_min is {sigma_min} and sigma_max {sigma_max}: "
                "0 < sigma_min < sigma_max is needed, both finite"
            )
        if not 0 < sigma_std < math.inf:
            raise ConfigError(f"policy.process.sigma_std is {sigma_std}: it must be positive")
        if not math.isfinite(sigma_mean):
            raise ConfigError(f"policy.process.sigma_mean is {sigma_mean}: a number is needed")
        self.ends, self.log_normal = (sigma_min, sigma_max), (sigma_mean, sigma_std)
        self.clean = Level(0.0, 1.0, 0.0)

    def level(self, t: Tensor) -> Level:
        least, most = map(math.log, self.ends)
        time = (t.log() - least) * (TIME_SCALE / (most - least))
        return Level(time, torch.ones_like(t), t)

    def sample_times(self, shape: Sequence[int], device: torch.device | str) -> Tensor:
        mean, std = self.log_normal
        return torch.exp(mean + std * torch.randn(tuple(shape), device=device))

    def times_of(self, ratios: Sequence[float]) -> list[float]:
        return list(ratios)

    def spacings(self, rho: float, shift: float) -> dict[str, Spacing]:
        least, most = self.ends
        return {
            "karras": lambda steps: karras(most, least, steps, rho),
            # The same, without the least noise: as many steps, and the last one a real one.
            "trailing": lambda steps: karras(most, least, steps + 1, rho)[:-1],
            "log_snr": lambda steps: geometric(most, least, steps),
        }
