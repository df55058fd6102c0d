"""The encoder of low-dimensional observations: it concatenates them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dipole.data import Features, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import ENCODERS
from dipole.policy.encoders.base import Encoder

PICTURES = "choose an image encoder (policy/encoder=image, policy=unet_image_small), "
OTHERS = {
    "image": PICTURES,
    "depth": PICTURES,
    "text": "choose policy/encoder=state_text, which reads words too, ",
}


@ENCODERS.add("state")
class StateEncoder(Encoder):
    """Flattens the To observations, time-major: [frame 0's features, frame 1's features, ...].

    Without parameters. The vector has To times the sum of the features' sizes.
    """

    by_frame = True

    def __init__(self, features: Features, window: WindowSpec) -> None:
        observed = features.observation
        others = [name for name, feature in observed.items() if feature.kind not in self.kinds]
        if others:
            kind = observed[others[0]].kind
            raise ConfigError(
                f"the state encoder cannot encode {', '.join(others)}, of kind {kind}: "
                f"{OTHERS.get(kind, '')}join encoders (name: join, docs/images.md), or leave it "
                "out of the task's observation"
            )
        size = sum(feature.size for feature in observed.values())
        super().__init__(ContextSpec(vector_dim=window.n_obs_steps * size))
        self.names = tuple(observed)

    def forward(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> Context:
        """Numbers that a row lacks are 0 already, see `Policy`."""
        parts = [observation[name].flatten(2) for name in self.names]  # each [B, To, F]
        return Context(vector=torch.cat(parts, dim=2).flatten(1))
