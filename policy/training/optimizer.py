"""The optimiser, its learning rate, and its state by name."""

import math

import torch
from torch import Tensor, nn

from dipole.data.errors import CheckpointError
from dipole.policy.training.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        (p for p in model.parameters() if p.requires_grad),
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up from 0, then half a cosine to 0: a function of the step, without state."""
    if step < config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state as {"parameter/entry": tensor}."""
    return {
        f"{name}/{entry}": torch.as_tensor(value)
        for name, parameter in model.named_parameters()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """The inverse of `optimizer_tensors`."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, entry = key.rsplit("/", 1)
        if name not in parameters:
            raise CheckpointError(f"the optimiser's state is of another policy: it has {name!r}")
        parameter = parameters[name]
        # Fused updates read parameter and state in the order of memory: it has to be the same.
        like = torch.empty_like(parameter) if value.shape == parameter.shape else value
        optimizer.state[parameter][entry] = like.to(parameter.device).copy_(value)
