"""The loss on held-out episodes, in eval mode, the same windows and noise every time."""

import numpy as np
import torch

from dipole.data import WindowSource
from dipole.policy.policy import Policy
from dipole.policy.training.process.randomness import seed_step


class Validation:
    """Loss over up to `limit` windows, spread evenly over the held-out episodes."""

    def __init__(self, windows: WindowSource, limit: int, batch_size: int, seed: int) -> None:
        chosen = np.unique(np.linspace(0, len(windows) - 1, min(limit, len(windows))).astype(int))
        self.windows, self.seed = windows, seed
        self.parts = np.array_split(chosen, -(-len(chosen) // batch_size))

    @torch.no_grad()
    def loss(self, policy: Policy) -> float:
        """Mean loss per window; the policy's mode is left as it was."""
        training = policy.training
        policy.eval()
        total = 0.0
        for number, indices in enumerate(self.parts):
            seed_step(self.seed, number)
            batch = to_device(self.windows.gather(indices), policy.device)
            total += float(policy.loss(batch)) * len(indices)
        policy.train(training)
        return total / sum(map(len, self.parts))


def to_device(batch: object, device: torch.device) -> dict[str, object]:
    """A batch of arrays as tensors on a device."""
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    return torch.as_tensor(batch, device=device)  # type: ignore[return-value]
