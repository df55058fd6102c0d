"""The straight path of flow matching and rectified flow."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.policy.core.components import PROCESSES
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.processes.base import Process, Spacing, geometric, karras

TIME_SCALE = 100.0  # of what the network is told: its embedding resolves steps of about 1
DISTRIBUTIONS = ("uniform", "logit_normal", "beta")
ENDS = 1e-3  # of the grids that are spaced by noise / signal, which t = 1 has without bound


@PROCESSES.add("flow")
class Flow(Process):
    """x = (1 - t) * clean + t * epsilon (Lipman et al., 2023; Liu et al., 2023).

    **t is 1 for noise and 0 for the clean chunk**, as in Stable Diffusion 3 and openpi. (Flow
    Matching's own paper counts the other way.)

    times: How training draws them: "uniform", "logit_normal" (Esser et al., 2024, section 3.1), or
        "beta" (Black et al., 2024: more of them near noise).
    logit_mean, logit_std: Of "logit_normal".
    beta_a, beta_b: Of "beta".
    """

    default_prediction = "velocity"
    default_spacing = "uniform"
    clean = Level(0.0, 1.0, 0.0)

    def __init__(
        self,
        times: str = "uniform",
        logit_mean: float = 0.0,
        logit_std: float = 1.0,
        beta_a: float = 1.5,
        beta_b: float = 1.0,
    ) -> None:
        super().__init__()
        if times not in DISTRIBUTIONS:
            raise ConfigError(
                f"policy.process.times is {times!r}{nearest(times, DISTRIBUTIONS) or ';'} known: "
                f"{', '.join(DISTRIBUTIONS)}"
            )
        for name, value in (("logit_std", logit_std), ("beta_a", beta_a), ("beta_b", beta_b)):
            if not 0 < value < math.inf:
                raise ConfigError(f"policy.process.{name} is {value}: it must be positive")
        if not math.isfinite(logit_mean):
            raise ConfigError(f"policy.process.logit_mean is {logit_mean}: a number is needed")
        self.times, self.logit = times, (logit_mean, logit_std)
        self.beta = (beta_a, beta_b)

    def level(self, t: Tensor) -> Level:
        return Level(TIME_SCALE * t, 1 - t, t)

    def sample_times(self, shape: Sequence[int], device: torch.device | str) -> Tensor:
        shape = tuple(shape)
        if self.times == "uniform":
            return torch.rand(shape, device=device)
        if self.times == "logit_normal":
            mean, std = self.logit
            return torch.sigmoid(mean + std * torch.randn(shape, device=device))
        a, b = (torch.full(shape, value, device=device) for value in self.beta)
        first, second = torch._standard_gamma(a), torch._standard_gamma(b)
        return first / (first + second)

    def times_of(self, ratios: Sequence[float]) -> list[float]:
        return [ratio / (1 + ratio) for ratio in ratios]

    def spacings(self, rho: float, shift: float) -> dict[str, Spacing]:
        ends = (1 - ENDS) / ENDS, ENDS / (1 - ENDS)  # noise / signal
        return {
            "uniform": _uniform,
            "shifted": lambda steps: [shift * t / (1 + (shift - 1) * t) for t in _uniform(steps)],
            "karras": lambda steps: self.times_of(karras(*ends, steps, rho)),
            "log_snr": lambda steps: self.times_of(geometric(*ends, steps)),
        }


def _uniform(steps: int) -> list[float]:
    return [1 - i / steps for i in range(steps)]
