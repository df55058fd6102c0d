"""Whatever predicts chunks: a policy, or what a runtime made of one."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from dipole.data import Features, WindowSpec
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.diffusion.noise import Generators
from dipole.policy.diffusion.solvers import Solver


class InferencePolicy(Protocol):
    """What evaluation and deployment need of a policy.

    features, window: As those of the policy.
    """

    features: Features
    window: WindowSpec

    @property
    def runtime(self) -> str:
        """What computes: "eager", or the name of a runtime."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def solver(self) -> Solver | None:
        """How chunks are drawn, of policies that have a solver."""
        ...

    @property
    def supports(self) -> frozenset[str]:
        """What may be asked of `predict`: "noise", "known", ..., see `SampleRequest`."""
        ...

    @property
    def max_prefix(self) -> int:
        """Actions of the longest prefix that chunks were trained to go on from; 0: none."""
        ...

    @property
    def optional(self) -> Sequence[str]:
        """What may be missing from an observation."""
        ...

    def predict(
        self,
        observation: Mapping[str, Any],
        generator: Generators = None,
        *,
        noise: Tensor | None = None,
        known: KnownChunk | None = None,
    ) -> Tensor:
        """An action chunk [B, H, A], in the robot's numbers; see `Policy.predict`."""
        ...

    def fake_observation(self, batch_size: int = 2) -> dict[str, Tensor]:
        """A random observation, as `predict` takes it."""
        ...
