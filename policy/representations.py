"""Between absolute numbers and those relative to an observed pose, for predictions.

    observation, absolute ─ observation() ─> as the network sees it
    chunk, as the network gives it ─ decode() ─> chunk, absolute; encode() is the inverse

Arrays of numpy or tensors, converted already and not normalised. Batches of training data come
represented. Without represented features everything is returned as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from dipole.data import Features
from dipole.data.core.errors import ConfigError
from dipole.data.loading.represented.reference import check_references
from dipole.data.transforms.representation import Representation

Observation = Mapping[str, Any]


@dataclass(frozen=True)
class Representations:
    """Of a policy's features. Raises ConfigError where they cannot be what they say."""

    features: Features

    def __post_init__(self) -> None:
        check_references(self.features)

    @cached_property
    def _of_observation(self) -> dict[str, Representation]:
        named = self.features.represented
        return {k: f.represent for k, f in named.items() if k != "action" and f.represent}

    @property
    def _of_action(self) -> Representation | None:
        return self.features.action.represent

    def observation(self, absolute: Observation) -> dict[str, Any]:
        """{name: [B, To, *shape]} as the network sees it."""
        return {
            name: _like(self._of_observation[name].encode(value, self._base(name, absolute)), value)
            if name in self._of_observation
            else value
            for name, value in absolute.items()
        }

    def absolute(self, represented: Observation) -> dict[str, Any]:
        """An observation that looks much like `represented` to the network.

        What it is relative to is not known from it: a pose that is relative to itself is taken as
        it is.
        """
        poses = {k: represented[k] for k in self._references if k in represented}
        return {
            name: _like(self._of_observation[name].decode(value, self._base(name, poses)), value)
            if name in self._of_observation and name not in self._references
            else value
            for name, value in represented.items()
        }

    def encode(self, chunk: Any, observation: Observation | None) -> Any:
        """An absolute chunk [B, H, A] as the network gives it. observation: absolute."""
        if self._of_action is None:
            return chunk
        return _like(self._of_action.encode(chunk, self._base("action", observation)), chunk)

    def decode(self, chunk: Any, observation: Observation | None) -> Any:
        """The inverse of `encode`."""
        if self._of_action is None:
            return chunk
        return _like(self._of_action.decode(chunk, self._base("action", observation)), chunk)

    def known(
        self, chunk: Tensor, mask: np.ndarray, observation: Observation
    ) -> tuple[Tensor, np.ndarray]:
        """Parts of an absolute chunk [B, H, A] that are known, as the network gives them; what is
        not known may be anything, and becomes 0.

        mask: How much of each number is known, 0 to 1; it is returned for the represented chunk.
        """
        if self._of_action is None:
            return chunk, mask
        base = self._base("action", observation)
        spread = self._of_action.spread(mask, base.shape[1])
        found = _like(self._of_action.encode(chunk, base), chunk)
        return found.where(found.new_tensor(spread) > 0, 0), spread

    @property
    def _references(self) -> set[str]:
        return {k for each in self._of_observation.values() for k in each.references} | set(
            self._of_action.references if self._of_action else ()
        )

    def _base(self, name: str, observation: Observation | None) -> Any:
        feature = self.features.named()[name]
        assert feature.represent is not None
        lacking = [k for k in feature.represent.references if k not in (observation or {})]
        if lacking or observation is None:
            raise ConfigError(
                f"{name!r} is relative to the observation {', '.join(map(repr, lacking))}, which "
                "is missing: give it"
            )
        return feature.represent.base(feature.shape[0], observation)


def _like(found: Any, values: Any) -> Any:
    """In the dtype of other numbers; of whole ones, in single precision."""
    if isinstance(found, np.ndarray):
        dtype = np.asarray(values).dtype
        return found.astype(dtype if dtype.kind == "f" else np.float32)
    return found.to(values.dtype) if values.is_floating_point() else found.float()
