"""Noise schedules: how much of the clean chunk is left at each denoising step."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError

NAMES = ("squaredcos_cap_v2", "linear", "scaled_linear")
PREDICTIONS = ("epsilon", "sample", "v_prediction")
LARGEST_BETA = 0.999


@dataclass(frozen=True)
class ScheduleConfig:
    """The forward process, in diffusers' terms.

    n_steps: number of training noise levels T. prediction: what the denoiser predicts: the noise,
    the clean chunk, or v (Salimans & Ho, 2022). clip_sample: clip the predicted clean chunk to
    [-1, 1], right only where actions are normalised to these limits.
    """

    name: str = "squaredcos_cap_v2"
    n_steps: int = 100
    prediction: str = "epsilon"
    clip_sample: bool = True
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ConfigError(f"unknown noise schedule {self.name!r}; known: {', '.join(NAMES)}")
        if self.prediction not in PREDICTIONS:
            raise ConfigError(
                f"unknown prediction {self.prediction!r}; known: {', '.join(PREDICTIONS)}"
            )
        if self.n_steps < 2:
            raise ConfigError(
                f"n_steps is {self.n_steps}: a schedule needs at least 2 noise levels"
            )


def cumulative_alphas(config: ScheduleConfig) -> Tensor:
    """The cumulative product of alpha, [T], the same bits as diffusers' (whose import takes
    seconds). A head keeps it among its weights, so that a trained policy keeps what it was trained
    with.
    """
    return torch.cumprod(1.0 - _betas(config), dim=0)


def _betas(config: ScheduleConfig) -> Tensor:
    """How much of the variance each step replaces by noise, [T], single precision."""
    with torch.device("cpu"):
        if config.name == "linear":
            return torch.linspace(config.beta_start, config.beta_end, config.n_steps)
        if config.name == "scaled_linear":  # linear in the standard deviation
            ends = config.beta_start**0.5, config.beta_end**0.5
            return torch.linspace(*ends, config.n_steps) ** 2
        steps = [index / config.n_steps for index in range(config.n_steps + 1)]
        return torch.tensor(
            [min(1 - _cosine(end) / _cosine(start), LARGEST_BETA) for start, end in pairwise(steps)]
        )


def _cosine(share: float) -> float:
    """The signal's variance after this share of the steps (Nichol & Dhariwal, 2021, eq. 17)."""
    return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2


def add_noise(clean: Tensor, noise: Tensor, time: Tensor, alphas: Tensor) -> Tensor:
    """The forward process (Ho et al., 2020, eq. 4). clean, noise: [B, H, A]; time: [B]."""
    kept = alphas[time].view(-1, *[1] * (clean.dim() - 1))  # [B, 1, 1]
    return kept.sqrt() * clean + (1 - kept).sqrt() * noise


def velocity(clean: Tensor, noise: Tensor, time: Tensor, alphas: Tensor) -> Tensor:
    """v = alpha * noise - sigma * clean (Salimans & Ho, 2022, appendix D)."""
    kept = alphas[time].view(-1, *[1] * (clean.dim() - 1))
    return kept.sqrt() * noise - (1 - kept).sqrt() * clean
