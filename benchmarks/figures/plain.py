"""The plain way, kept honest and simple: what every figure is compared with.

The reference network of torch's own layers, its weights as torch has them; the diffusers
scheduler's `step` in a Python loop, everything recomputed in every step.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dipole.policy.denoisers import ConditionalUnet1D
from dipole.policy.denoisers.cpu_unet.fast_path import use_fast_path
from dipole.policy.denoisers.cpu_unet.weights import arrange_weights


def plain_unet(
    action_dim: int, context_dim: int, down_dims: Sequence[int], time_embed_dim: int
) -> ConditionalUnet1D:
    """A U-Net that always computes with the modules of the reference."""
    unet = ConditionalUnet1D(action_dim, context_dim, down_dims, time_embed_dim=time_embed_dim)
    use_fast_path(unet, False)
    arrange_weights(unet, by_tap=False)
    return unet


def plain_scheduler(steps: int) -> Any:
    """diffusers' DDIM, ready for so many steps."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2", num_train_timesteps=100)
    scheduler.config.steps_offset = 0
    scheduler.set_timesteps(steps)
    return scheduler


@torch.inference_mode()
def plain_chunk(network: nn.Module, scheduler: Any, vector: Tensor, noise: Tensor) -> Tensor:
    """The published loop: everything anew in every step."""
    x = noise
    for time_step in scheduler.timesteps:
        prediction = network(x, time_step.to(x.device).expand(len(x)), vector)
        x = scheduler.step(prediction, time_step, x).prev_sample
    return x
