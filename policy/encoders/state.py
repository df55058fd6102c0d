"""The encoder for low-dimensional observations: it only lines them up."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dipole.data import Features, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context
from dipole.policy.core.components import ENCODERS


@ENCODERS.add("state")
class StateEncoder(nn.Module):
    """Flattens the To observations, time-major: [frame 0's features, frame 1's features, ...].

    Without parameters. context_dim is To times the sum of the features' sizes.
    """

    def __init__(self, features: Features, window: WindowSpec) -> None:
        super().__init__()
        observed = features.observation
        images = [name for name, f in observed.items() if f.kind in ("image", "depth")]
        if images:
            raise ConfigError(
                f"the state encoder cannot see images ({', '.join(images)}): "
                "choose an image encoder, or leave them out of the task's observation"
            )
        self.names = tuple(features.observation)
        sizes = [torch.Size(f.shape).numel() for f in features.observation.values()]
        self.context_dim = window.n_obs_steps * sum(sizes)

    def forward(self, observation: Mapping[str, Tensor]) -> Context:
        """observation: {name: [B, To, *shape]}, normalised -> Context with vector [B, To * sum]."""
        parts = [observation[name].flatten(2) for name in self.names]  # each [B, To, F]
        return Context(vector=torch.cat(parts, dim=2).flatten(1))
