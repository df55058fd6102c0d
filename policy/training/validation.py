"""The loss on held-out episodes, in eval mode, the same windows and noise every time."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from dipole.data import WindowSource
from dipole.policy.training.objective import Objective
from dipole.policy.training.process.randomness import seed_step


class Validation:
    """Loss over up to `limit` windows, spread evenly over the held-out episodes."""

    def __init__(self, windows: WindowSource, limit: int, batch_size: int, seed: int) -> None:
        chosen = np.unique(np.linspace(0, len(windows) - 1, min(limit, len(windows))).astype(int))
        self.windows, self.seed = windows, seed
        self.parts = np.array_split(chosen, -(-len(chosen) // batch_size))

    @torch.no_grad()
    def losses(self, objective: Objective, step: int = 0) -> dict[str, float]:
        """Means per window: "loss", the total of the objective's first update, and "loss/NAME", its
        parts."""
        update = next(iter(objective.parameter_groups()))
        sums: dict[str, float] = {}
        with in_eval_mode(objective):
            for number, indices in enumerate(self.parts):
                seed_step(self.seed, number)
                batch = to_device(self.windows.gather(indices), objective.policy.device)
                loss = objective(batch, update=update, step=step)
                named = {"loss": loss.total, **{f"loss/{n}": p for n, p in loss.parts.items()}}
                for name, value in named.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(indices)
        count = sum(map(len, self.parts))
        return {name: total / count for name, total in sums.items()}


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Afterwards each of its modules is in the mode that it was in."""
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for each, training in modes:
            each.training = training


def to_device(batch: object, device: torch.device) -> dict[str, object]:
    """A batch of arrays as tensors on a device."""
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    return torch.as_tensor(batch, device=device)  # type: ignore[return-value]
