"""The optimiser, its learning rate, and its state by name."""

import math
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.data.core.registry import nearest
from dipole.policy.training.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        _groups(model, config),
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def _groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """One for each learning rate; `ratio` is its share of the run's own."""
    found: dict[str, list[nn.Parameter]] = {part: [] for part in ("", *config.learning_rates)}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parts = (p for p in config.learning_rates if fnmatchcase(f"{name}.", f"{p}.*"))
            found[next(parts, "")].append(parameter)
    for part in config.learning_rates:
        if not found[part]:
            modules = [name for name, _ in model.named_modules() if name]
            raise ConfigError(
                f"train.learning_rates: no parameter that is trained begins with {part!r}"
                f"{nearest(part, modules) or ';'} the policy consists of "
                f"{', '.join(name for name, _ in model.named_children())}"
            )
    rates = {"": config.learning_rate, **config.learning_rates}
    return [
        {"params": parameters, "ratio": rates[part] / config.learning_rate}
        for part, parameters in found.items()
        if parameters
    ]


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up from 0, then half a cosine to 0: a function of the step, without state."""
    if step < config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value * group["ratio"]


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
