"""Between the robot's numbers and those of the network: conversions, representations, normalisers.

    the robot's ── convert ── represent ── normalise ──> the network's
                <── invert ─── decode ─── unnormalise ──

What is relative to an observation needs it: `seen` is one that is converted and absolute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dipole.data import Feature, Features
from dipole.data.loading.represented.reference import check_references
from dipole.policy.diffusion.costs import CostTerm
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.normalizers import Normalizers
from dipole.policy.observations import as_array, errors_naming
from dipole.policy.representations import Representations

Observation = Mapping[str, Tensor]


@dataclass(frozen=True)
class RobotNumbers:
    """Of a policy's features; tensors are on the device of its normalisers.

    Raises ConfigError for features that are relative to what is not observed.
    """

    features: Features
    normalizers: Normalizers

    def __post_init__(self) -> None:
        check_references(self.features)

    @cached_property
    def representations(self) -> Representations:
        """What is relative to an observation."""
        return Representations(self.features)

    def observation(self, observation: Observation) -> dict[str, Tensor]:
        """A checked observation in the robot's numbers, converted and still absolute."""
        converted = {}
        for name, value in observation.items():
            with errors_naming(name):
                converted[name] = self._converted(self.features.observation[name], value)
        return converted

    def robots_observation(self, observation: Observation) -> dict[str, Tensor]:
        """An observation in the robot's numbers that the network might see so."""
        named, absolute = self.features.observation, self.representations.absolute(observation)
        return {name: self._inverted(named[name], value) for name, value in absolute.items()}

    def normalized(self, chunk: Any, seen: Observation | None) -> Tensor:
        """A chunk [B, H, A] in the robot's numbers as the network gives it."""
        converted = self._converted(self.features.action, chunk)
        return self.normalizers["action"].normalize(self.representations.encode(converted, seen))

    def robots_chunk(self, chunk: Tensor, seen: Observation) -> Tensor:
        """A chunk [B, H, A] that is unnormalised in the robot's numbers."""
        return self._inverted(self.features.action, self.representations.decode(chunk, seen))

    def normalized_known(self, known: KnownChunk, seen: Observation) -> KnownChunk:
        """Parts of a chunk that are known, as the network gives them; what is not known may be
        anything, NaN included."""
        conversions = self.features.action.conversions
        given, mask = as_array(known.values), as_array(known.mask)
        converted = self._on_device(conversions.apply_where(given, mask > 0))
        found, spread = self.representations.known(converted, conversions.spread(mask), seen)
        values = self.normalizers["action"].normalize(found)
        return replace(known, values=values, mask=self._on_device(spread).to(values.dtype))

    def normalized_costs(self, costs: Sequence[CostTerm], seen: Observation) -> list[CostTerm]:
        """Costs of converted, absolute chunks as costs of those that the network gives."""
        with torch.inference_mode(False):  # gradients go through what is made of these
            observation = {name: value.clone() for name, value in seen.items()} if costs else {}

        def absolute(chunk: Tensor) -> Any:
            unnormalized = self.normalizers["action"].unnormalize(chunk)
            return self.representations.decode(unnormalized, observation)

        return [term.of(absolute) for term in costs if term.scale]

    def _converted(self, feature: Feature, values: Any) -> Tensor:
        if not feature.is_converted:
            return self._on_device(values)
        return self._on_device(feature.apply(as_array(values)))

    def _inverted(self, feature: Feature, values: Tensor) -> Tensor:
        if not feature.is_converted:
            return values
        return self._on_device(feature.invert(as_array(values)))

    def _on_device(self, values: Any) -> Tensor:
        return torch.as_tensor(values, device=self.normalizers.device)
