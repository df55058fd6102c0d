"""Noise schedules: how much of the clean chunk is left at each denoising step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError

NAMES = ("squaredcos_cap_v2", "linear", "scaled_linear")
PREDICTIONS = ("epsilon", "sample", "v_prediction")


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
    """The cumulative product of alpha, [T], from diffusers, whose import takes seconds.

    A head keeps it among its weights, so that loading a checkpoint needs no diffusers, and a change
    of the library's tables cannot change a trained policy: under the meta device, where weights are
    about to be loaded, it is left empty.
    """
    if torch.get_default_device().type == "meta":
        return torch.empty(config.n_steps)
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    scheduler = DDPMScheduler(
        num_train_timesteps=config.n_steps,
        beta_schedule=config.name,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
    )
    return torch.as_tensor(scheduler.alphas_cumprod, dtype=torch.float32)


def add_noise(clean: Tensor, noise: Tensor, time: Tensor, alphas: Tensor) -> Tensor:
    """The forward process (Ho et al., 2020, eq. 4). clean, noise: [B, H, A]; time: [B]."""
    kept = alphas[time].view(-1, *[1] * (clean.dim() - 1))  # [B, 1, 1]
    return kept.sqrt() * clean + (1 - kept).sqrt() * noise


def velocity(clean: Tensor, noise: Tensor, time: Tensor, alphas: Tensor) -> Tensor:
    """v = alpha * noise - sigma * clean (Salimans & Ho, 2022, appendix D)."""
    kept = alphas[time].view(-1, *[1] * (clean.dim() - 1))
    return kept.sqrt() * noise - (1 - kept).sqrt() * clean
