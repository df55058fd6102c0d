"""The loss on held-out episodes, in eval mode, the same windows and noise every time.

What is drawn (noise, noise levels) is a function of the windows alone: losses of runs with other
seeds and batch sizes are compared.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from dipole.data import WindowSource
from dipole.policy.heads.base import MeanError
from dipole.policy.training.objective import Objective
from dipole.policy.training.process.randomness import seed_step

SEED = 42
BATCH_SIZE = 32  # of windows, at most; without gradients they take less than training's


class Validation:
    """Loss over up to `limit` windows, spread evenly over the held-out episodes."""

    def __init__(self, windows: WindowSource, limit: int) -> None:
        chosen = np.unique(np.linspace(0, len(windows) - 1, min(limit, len(windows))).astype(int))
        self.windows = windows
        self.parts = np.array_split(chosen, -(-len(chosen) // BATCH_SIZE))

    @torch.no_grad()
    def losses(self, objective: Objective, step: int = 0) -> dict[str, float]:
        """Means per window: "loss", the total of the objective's first update, and "loss/NAME", its
        parts; and its errors, "error/NAME/UNIT"."""
        update = next(iter(objective.parameter_groups()))
        sums: dict[str, float] = {}
        errors = MeanErrors()
        with in_eval_mode(objective):
            for number, indices in enumerate(self.parts):
                seed_step(SEED, number)
                batch = to_device(self.windows.gather(indices), objective.policy.device)
                loss = objective(batch, update=update, step=step)
                named = {"loss": loss.total, **{f"loss/{n}": p for n, p in loss.parts.items()}}
                for name, value in named.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(indices)
                errors.add(loss.errors)
        count = sum(map(len, self.parts))
        return {name: total / count for name, total in sums.items()} | errors.means()


class MeanErrors:
    """Of the errors of several batches, which may count different numbers of each."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, errors: Mapping[str, MeanError]) -> None:
        for name, one in errors.items():
            total, count = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (total + float(one.total), count + float(one.count))

    def means(self) -> dict[str, float]:
        """By key of the log; without those of which nothing was counted."""
        counted = {name: pair for name, pair in self._sums.items() if pair[1]}
        return {f"error/{name}": total / count for name, (total, count) in counted.items()}


def errors_text(losses: Mapping[str, float]) -> str:
    """Of what `Validation.losses` gives, the errors for a person: "keypoints 3.5 px"; or "".

    >>> errors_text({"loss": 0.1, "error/keypoints/px": 3.512, "error/lid": 0.02})
    'keypoints 3.51 px · lid 0.02'
    """
    found = []
    for key, value in losses.items():
        kind, _, rest = key.partition("/")
        if kind == "error":
            name, _, unit = rest.partition("/")
            found.append(f"{name} {value:.3g} {unit}".rstrip())
    return " · ".join(found)


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
