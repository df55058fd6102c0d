"""One batch of a mixture from its parts' own, and masks for what a part lacks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dipole.data.loading.features import Features
from dipole.data.loading.window_source import Batch, PartRows

if TYPE_CHECKING:
    from dipole.data.loading.mixture.mixture import MixturePart


def assemble(features: Features, chosen: Sequence[PartRows], batches: Sequence[Batch]) -> Batch:
    """The rows of each part in their places; what a part lacks is zero. Without masks."""
    size = sum(len(one.rows) for one in chosen)

    def joined(name: str, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        array = np.zeros((size, *shape), dtype)
        for one, batch in zip(chosen, batches, strict=True):
            values = batch.get(name, batch["observation"].get(name))
            if values is not None:
                array[one.rows] = values
        return array

    action = batches[0]["action"]  # [B, H, A]
    n_obs_steps = next(iter(batches[0]["observation"].values())).shape[1]
    observation = {
        name: joined(name, (n_obs_steps, *feature.shape), feature.dtype)
        for name, feature in features.observation.items()
    }
    return {
        "observation": observation,
        "action": joined("action", action.shape[1:], action.dtype),
        "action_is_pad": joined("action_is_pad", action.shape[1:2], np.dtype(bool)),
    }


class PartMasks:
    """Which rows lack which observations, and which numbers of their actions."""

    def __init__(self, given: "Sequence[MixturePart]", features: Features) -> None:
        numbers = np.arange(features.action.shape[0])
        lacking = {
            name: np.array([name not in part.windows.features.observation for part in given])
            for name in features.observation
        }
        self._observation = {name: parts for name, parts in lacking.items() if parts.any()}
        self._action = np.array([np.isin(numbers, part.entries, invert=True) for part in given])

    def of(self, parts: np.ndarray) -> Batch:
        """The masks of rows that are these parts', int [B]; none where no part lacks anything.

        {"observation_is_missing": {name: bool [B]}, "action_is_missing": bool [B, A]}.
        """
        masks: Batch = {}
        if self._observation:
            missing = {name: lacking[parts] for name, lacking in self._observation.items()}
            masks["observation_is_missing"] = missing
        if self._action.any():
            masks["action_is_missing"] = self._action[parts]
        return masks
