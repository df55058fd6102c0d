"""Moving averages of weights."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dipole.policy.encoders.cameras.backbones.batchnorm import refuse_batchnorm
from dipole.policy.training.config import EMAConfig
from dipole.policy.training.optimization.shards import local


def ema_decay(update: int, config: EMAConfig) -> float:
    """The decay at update n, counted from 0: 0, 0, 0.4054, ... (Chi et al., 2023). diffusers'
    EMAModel counts the update first, and is one ahead."""
    step = max(0, update - 1)
    return min(1.0 - float((1 + step) ** -config.power), config.max_decay)


class EMA:
    """Moving average of a module's weights.

    model: A copy of the module whose parameters follow it slowly and whose buffers equal its.
    updates: How many updates were made; saved, since the decay depends on it.

    Raises ConfigError for a module with BatchNorm.
    """

    def __init__(self, model: nn.Module, config: EMAConfig) -> None:
        refuse_batchnorm(model)
        self.config = config
        self.updates = 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, wanted: Callable[[Tensor], bool] = lambda _: True) -> None:
        """Move towards the module's weights. wanted: Those of its parameters whose averages move;
        the others are another process's to move."""
        weight = 1 - ema_decay(self.updates, self.config)
        pairs = zip(self.model.parameters(), model.parameters(), strict=True)
        moved = [(mine, theirs) for mine, theirs in pairs if wanted(theirs)]
        if moved:
            averaged, current = ([local(p) for p in each] for each in zip(*moved, strict=True))
            torch._foreach_lerp_(averaged, current, weight)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
        self.updates += 1
