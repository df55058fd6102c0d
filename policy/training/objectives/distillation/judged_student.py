"""Students that a discriminator judges, which is trained by an update of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from dipole.data.core.from_mapping import from_mapping
from dipole.policy.training.objective import ParameterGroup
from dipole.policy.training.objectives.distillation.base import Distillation
from dipole.policy.training.objectives.distillation.discriminator import (
    Discriminator,
    DiscriminatorConfig,
)

DISCRIMINATOR = "discriminator"  # the update


class JudgedStudent(Distillation):
    """Base class: `discriminator`, of chunks given the context, with `options`."""

    options: DiscriminatorConfig
    discriminator: Discriminator

    def add_discriminator(
        self, options: Mapping[str, Any] | None, chunks: int = 1, further: int = 0
    ) -> None:
        """Called once, after the policy is there.

        options: Of `DiscriminatorConfig`.
        chunks: How many it sees beside each other.
        further: Numbers of a row that it is told beside the context.
        """
        self.options = from_mapping(DiscriminatorConfig, options or {}, "objective.discriminator")
        sizes = (chunks * self.head.action_dim, self.head.horizon, self.policy.encoder.spec)
        self.discriminator = Discriminator(*sizes, self.options.width, further)

    def parameter_groups(self) -> Mapping[str, list[ParameterGroup]]:
        own = ParameterGroup(
            list(self.discriminator.parameters()), self.options.learning_rate_ratio
        )
        return {**super().parameter_groups(), DISCRIMINATOR: [own]}

    def updates(self, step: int) -> Sequence[str]:
        return (*[DISCRIMINATOR] * self.options.updates, "policy")
