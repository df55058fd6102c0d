"""What benchmarks/gpu.py measures of networks that see: the same contestants, on pictures."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dipole.benchmarks.figures.images import (
    FRAMES,
    SIZE,
    PlainImagePolicy,
    our_policy,
)
from dipole.benchmarks.figures.plain import plain_chunk
from dipole.policy import Policy
from dipole.policy.diffusion.solvers import DDIM

BATCH = 64  # windows of two pictures


@cache
def plain_on(device: torch.device, network: str) -> PlainImagePolicy:
    """With random weights."""
    torch.manual_seed(0)
    return PlainImagePolicy(network).to(device)


@cache
def ours_on(device: torch.device, network: str, steps: int) -> Policy:
    """With random weights."""
    policy = our_policy(network)
    policy.solver = DDIM(steps)
    return policy.to(device)


def window_of(batch: int, device: torch.device | str) -> dict[str, Tensor]:
    """Pictures, bytes, and a place."""
    generator = torch.Generator().manual_seed(2)
    size = (batch, FRAMES, SIZE, SIZE, 3)
    pictures = torch.randint(256, size, dtype=torch.uint8, generator=generator)
    state = torch.randn(batch, FRAMES, 2, generator=generator)
    return {"image": pictures.to(device), "agent_pos": state.to(device)}


def plain_prediction(
    model: Callable[..., Tensor], observation: dict[str, Tensor]
) -> Callable[[Tensor, Tensor], Tensor]:
    """Of the noise, by noisy chunks and times; bytes become floats as everybody has it."""

    def predict(noisy: Tensor, times: Tensor) -> Tensor:
        images = observation["image"].permute(0, 1, 4, 2, 3).float() / 255
        return model(images, observation["agent_pos"], noisy, times)

    return predict


def plain_chunks(
    network: str, device: torch.device, scheduler: Any, observation: Any, noise: Tensor
) -> Callable[[], Tensor]:
    """What is on the host in, actions on the host out."""
    model = copy.deepcopy(plain_on(device, network)).eval().requires_grad_(False)

    @torch.no_grad()
    def chunk() -> Tensor:
        images = observation["image"].to(device).permute(0, 1, 4, 2, 3).float() / 255
        context = model.context(images, observation["agent_pos"].to(device))
        return plain_chunk(model.unet, scheduler, context, noise.to(device)).cpu()

    return chunk
