"""Random observations and batches, to try a policy without data."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dipole.data import Feature, Features, WindowSpec
from dipole.policy.normalizers import Normalizers


@dataclass(frozen=True)
class FakeData:
    """Pictures and small letters as bytes, other numbers within what their normaliser takes to
    [-1, 1]. All converted, on the device of the normalisers.

    features, window, normalizers: Of the policy.
    """

    features: Features
    window: WindowSpec
    normalizers: Normalizers

    def observation(self, rows: int) -> dict[str, Tensor]:
        """{name: [B, To, *shape]}."""
        lead = (rows, self.window.n_obs_steps)
        named = self.features.observation.items()
        return {name: self._draw(lead, name, feature) for name, feature in named}

    def batch(self, rows: int) -> dict[str, Any]:
        """A training batch, as `dipole.data.WindowSource.gather` gives it."""
        lead = (rows, self.window.horizon)
        return {
            "observation": self.observation(rows),
            "action": self._draw(lead, "action", self.features.action),
            "action_is_pad": torch.zeros(lead, dtype=torch.bool, device=self.normalizers.device),
        }

    def _draw(self, lead: tuple[int, ...], name: str, feature: Feature) -> Tensor:
        shape, device = (*lead, *feature.shape), self.normalizers.device
        if feature.kind == "image":
            return torch.randint(256, shape, dtype=torch.uint8, device=device)
        if feature.kind == "text":
            return torch.randint(97, 123, shape, dtype=torch.uint8, device=device)
        return self.normalizers[name].unnormalize(2 * torch.rand(shape, device=device) - 1)
