"""The optimisers, their learning rates, and their state by name."""

import math
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.data.core.registry import nearest
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.objective import Objective, ParameterGroup, short_name
from dipole.policy.training.optimization.adamw import AdamW
from dipole.policy.training.optimization.shards import is_sharded, sharded_as


def make_optimizers(objective: Objective, config: TrainConfig) -> dict[str, torch.optim.AdamW]:
    """One for each of an objective's updates."""
    _refuse_clashes(objective)
    names = {parameter: short_name(name) for name, parameter in objective.named_parameters()}
    groups = objective.parameter_groups()
    trained = [p for each in groups.values() for group in each for p in group.parameters]
    for parameter in trained:
        if parameter not in names:
            raise ConfigError(
                f"{type(objective).__name__}.parameter_groups gives a parameter of shape "
                f"{list(parameter.shape)} that is not the objective's: make its module an "
                "attribute of the objective"
            )
    _refuse_unused(config, names.values(), objective)
    return {update: _adamw(update, each, names, config) for update, each in groups.items()}


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Of all parameters of a module."""
    names = {parameter: short_name(name) for name, parameter in model.named_parameters()}
    _refuse_unused(config, names.values(), model)
    return _adamw("policy", [ParameterGroup(list(names))], names, config)


def _adamw(
    update: str,
    groups: Sequence[ParameterGroup],
    names: Mapping[nn.Parameter, str],
    config: TrainConfig,
) -> torch.optim.AdamW:
    """`ratio` of each of its groups is that of its learning rate to the run's own."""
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for group in groups:
        for parameter in group.parameters:
            if parameter in seen:
                raise ConfigError(f"update {update!r}: {names[parameter]} is given twice")
            seen.add(parameter)
            if parameter.requires_grad:
                key = _ratio_and_decay(names[parameter], parameter, group, config)
                found.setdefault(key, []).append(parameter)
    if not found:
        raise ConfigError(f"update {update!r} has no parameter that is trained")
    return AdamW(
        [
            {"params": parameters, "ratio": ratio, "weight_decay": decay}
            for (ratio, decay), parameters in found.items()
        ],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def _ratio_and_decay(
    name: str, parameter: nn.Parameter, group: ParameterGroup, config: TrainConfig
) -> tuple[float, float]:
    rate = _of_part(config.learning_rates, name)
    ratio = group.learning_rate_ratio if rate is None else rate / config.learning_rate
    decay = _of_part(config.weight_decays, name)
    if decay is None:
        exempt = parameter.dim() <= 1 and not config.decay_norms_and_biases
        own = config.weight_decay if group.weight_decay is None else group.weight_decay
        decay = 0.0 if exempt else own
    return ratio, decay


def _of_part(values: Mapping[str, float], name: str) -> float | None:
    """The value of the first part whose name `name` begins with."""
    return next((values[p] for p in values if fnmatchcase(f"{name}.", f"{p}.*")), None)


def _refuse_clashes(objective: Objective) -> None:
    """Helpers and parts of the policy are told apart by their names alone."""
    taken = dict(objective.policy.named_children())
    for name, _ in objective.named_children():
        if name in taken:
            raise ConfigError(
                f"{type(objective).__name__} has a helper named {name!r}, as the policy has a "
                "part: name it otherwise"
            )


def _refuse_unused(config: TrainConfig, names: Collection[str], model: nn.Module) -> None:
    """Raises ConfigError for a part that no parameter is of. Those that are not trained will do: a
    recipe's values for a part hold where it is frozen too."""
    for setting in ("learning_rates", "weight_decays"):
        for part in getattr(config, setting):
            if any(fnmatchcase(f"{name}.", f"{part}.*") for name in names):
                continue
            parts = {name.rpartition(".")[0] for name in names} | set(names)
            tops = dict.fromkeys(short_name(name).split(".")[0] for name, _ in _inner(model))
            raise ConfigError(
                f"train.{setting}: no parameter begins with {part!r}"
                f"{nearest(part, parts) or ';'} the policy consists of {', '.join(tops)}"
            )


def _inner(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules right below, those of an objective's policy included."""
    below = list(model.named_children())
    if isinstance(model, Objective):
        below = [*model.policy.named_children(), *(each for each in below if each[0] != "policy")]
    return below


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
        f"{short_name(name)}/{entry}": torch.as_tensor(value)
        for name, parameter in model.named_parameters()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of `optimizer_tensors`. Raises CheckpointError for another model's parameters."""
    groups: list[dict[str, Any]] = optimizer.param_groups
    own = {parameter for group in groups for parameter in group["params"]}
    parameters = {short_name(name): p for name, p in model.named_parameters() if p in own}
    for key, value in tensors.items():
        name, entry = key.rsplit("/", 1)
        if name not in parameters:
            raise CheckpointError(f"the optimiser's state is of another policy: it has {name!r}")
        parameter = parameters[name]
        if is_sharded(parameter) and value.shape == parameter.shape:
            optimizer.state[parameter][entry] = sharded_as(value, parameter)
            continue
        # Fused updates read parameter and state in the order of memory: it has to be the same.
        like = torch.empty_like(parameter) if value.shape == parameter.shape else value
        optimizer.state[parameter][entry] = like.to(parameter.device).copy_(value)
