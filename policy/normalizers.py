"""The normalisers of a policy, one for each entry of its schema that is numbers."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dipole.data import Features, Statistics
from dipole.policy.core.named import NamedModules
from dipole.policy.normalizer import Normalizer, over_pixels


class Normalizers(NamedModules):
    """{name: Normalizer} of all but images and text; "action" is one of them.

    features: The schema. The normalisers are the identity until `fit`.
    """

    def __init__(self, features: Features) -> None:
        named = {name: each for name, each in features.named().items() if each.is_numeric}
        super().__init__({name: Normalizer(feature.shape) for name, feature in named.items()})
        self.features = named

    def __getitem__(self, key: str) -> Normalizer:
        found = super().__getitem__(key)
        assert isinstance(found, Normalizer)
        return found

    def fit(self, statistics: Mapping[str, Statistics]) -> None:
        """From the statistics of the training episodes, by name."""
        for name, feature in self.features.items():
            found = statistics[name]
            pooled = over_pixels(found) if feature.kind == "depth" else found
            kind = "limits" if feature.normalize == "log" else feature.normalize
            self[name].fit(kind, pooled)

    def constant(self) -> dict[str, list[int]]:
        """Dimensions that do not vary, by name, where there are some."""
        found = {name: self[name].constant for name in self}
        return {name: constant for name, constant in found.items() if constant}

    def normalize(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The observation, its numbers normalised; and what of `missing` an encoder has to know:
        cameras, those of depth among them.

        missing: Of some observations, which rows do not have them, bool [B]. Numbers are 0 there.
        """
        normalised = {
            name: self[name].normalize(value) if name in self else value
            for name, value in observation.items()
        }
        absent = dict(missing)
        for name in [name for name in absent if name in self]:
            rows = absent[name] if self.features[name].kind == "depth" else absent.pop(name)
            rows = rows.view(-1, *[1] * (normalised[name].ndim - 1))
            normalised[name] = normalised[name].masked_fill(rows, 0)
        return normalised, absent

    @property
    def device(self) -> torch.device:
        return self["action"].scale.device
