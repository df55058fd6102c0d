"""The encoder of policies that see nothing but what is known of their chunks."""

from collections.abc import Mapping

from torch import Tensor

from dipole.data import Features, WindowSpec
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import ENCODERS
from dipole.policy.encoders.base import Encoder


@ENCODERS.add("nothing")
class NoEncoder(Encoder):
    """A vector without numbers, whatever is observed: for `policy.known`, where the goal of a plan
    enters as its last action (Janner et al., 2022), and for a part of `join` that others ignore."""

    kinds = frozenset({"state", "action", "depth"})

    def __init__(self, features: Features, window: WindowSpec) -> None:
        super().__init__(ContextSpec(vector_dim=0))
        self.name = next(iter(features.observation))

    def forward(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> Context:
        rows = observation[self.name]
        return Context(vector=rows.new_zeros(rows.shape[0], 0))
