"""One batch of a mixture from its parts' own, and masks for what a part lacks."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dipole.data.loading.features import Features
from dipole.data.loading.targets import Target
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


def assemble_targets(
    targets: Mapping[str, Target],
    n_obs_steps: int,
    chosen: Sequence[PartRows],
    batches: Sequence[Batch],
) -> Batch:
    """The targets of the rows of each part in their places, and which of them lie past an episode's
    end; what a part lacks is zero. Empty without targets."""
    if not targets:
        return {}
    size = sum(len(one.rows) for one in chosen)
    made: Batch = {"target": {}}
    for name, target in targets.items():
        values = np.zeros((size, n_obs_steps, *target.feature.shape), np.float32)
        is_pad = np.zeros((size, n_obs_steps), bool)
        for one, batch in zip(chosen, batches, strict=True):
            if name in batch.get("target", {}):
                values[one.rows] = batch["target"][name]
                is_pad[one.rows] = batch.get("target_is_pad", {}).get(name, False)
        made["target"][name] = values
        if target.ahead:
            made.setdefault("target_is_pad", {})[name] = is_pad
    return made


class PartMasks:
    """Which rows lack which observations and targets, and which numbers of their actions."""

    def __init__(
        self,
        given: "Sequence[MixturePart]",
        features: Features,
        targets: Mapping[str, Target] | None = None,
    ) -> None:
        numbers = np.arange(features.action.shape[0])
        seen = [part.windows.features.observation for part in given]
        self._observation = _lacking(features.observation, seen)
        self._target = _lacking(targets or {}, [part.windows.targets for part in given])
        self._action = np.array([np.isin(numbers, part.entries, invert=True) for part in given])

    def of(self, parts: np.ndarray) -> Batch:
        """The masks of rows that are these parts', int [B]; none where no part lacks anything.

        {"observation_is_missing": {name: bool [B]}, "action_is_missing": bool [B, A],
        "target_is_missing": {name: bool [B]}}.
        """
        masks: Batch = {}
        for key, found in (("observation", self._observation), ("target", self._target)):
            if found:
                missing = {name: lacking[parts] for name, lacking in found.items()}
                masks[f"{key}_is_missing"] = missing
        if self._action.any():
            masks["action_is_missing"] = self._action[parts]
        return masks


def _lacking(
    names: Iterable[str], having: Sequence[Collection[str]]
) -> dict[str, npt.NDArray[np.bool_]]:
    """{name: bool [parts]} of the names that some part lacks. having: Names, of each part."""
    lacking = {name: np.array([name not in own for own in having]) for name in names}
    return {name: parts for name, parts in lacking.items() if parts.any()}
