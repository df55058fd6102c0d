"""Networks that take part in training and are not trained: teachers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from dipole.policy.checkpoint import find_checkpoint, load_policy, weights_source


class Frozen(nn.Module):
    """A module in eval mode whose weights stay as they are, and where they came from.

    No checkpoint copies it: config.json holds its `source`, and a run goes on only with the same.
    Gradients pass through it to what it is given.

    module: The network.
    source: Plain values; "sha256" is that of the file with its weights.
    """

    def __init__(self, module: nn.Module, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.module, self.source = module, dict(source)
        self.requires_grad_(False).eval()

    @classmethod
    def of_policy(cls, path: str | Path, weights: str = "ema") -> "Frozen":
        """The policy of a checkpoint. path, weights: see `dipole.policy.load_policy`. Give one
        checkpoint, RUN/checkpoints/NNNNNNNN, if the run that it is of goes on."""
        folder = find_checkpoint(path)
        return cls(load_policy(folder, weights=weights), weights_source(folder, weights))

    def train(self, mode: bool = True) -> "Frozen":
        """Stays in eval mode."""
        super().train(False)
        return self

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.module(*inputs, **named)


def frozen_modules(module: nn.Module) -> dict[str, Frozen]:
    """Those within a module, by name."""
    return {name: each for name, each in module.named_modules() if isinstance(each, Frozen)}
