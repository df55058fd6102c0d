"""One batch of a mixture from its parts' own, with masks for what a part lacks."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dipole.data.loading.features import Features
from dipole.data.loading.window_source import Batch, PartRows

if TYPE_CHECKING:
    from dipole.data.loading.mixture import MixturePart


def assemble(
    given: "Sequence[MixturePart]",
    features: Features,
    chosen: Sequence[PartRows],
    batches: Sequence[Batch],
) -> Batch:
    """See `WindowSource.assemble`; numpy arrays or tensors, on the device of the parts' batches."""
    size = sum(len(one.rows) for one in chosen)
    like = batches[0]["action"]
    rows = [_there(like, one.rows) for one in chosen]

    def joined(shape: Sequence[int], dtype: Any, values: Sequence[Any]) -> Any:
        """[B, *shape] of each part's value, 0 in the rows of a part with None."""
        array = _zeros(like, (size, *shape), np.dtype(dtype))
        for here, value in zip(rows, values, strict=True):
            if value is not None:
                array[here] = value
        return array

    steps = next(iter(batches[0]["observation"].values())).shape[1]
    observation = {
        name: joined(
            (steps, *feature.shape),
            feature.dtype,
            [one["observation"].get(name) for one in batches],
        )
        for name, feature in features.observation.items()
    }
    whole = {
        "observation": observation,
        "action": joined(like.shape[1:], np.float32, [one["action"] for one in batches]),
        "action_is_pad": joined(like.shape[1:2], bool, [one["action_is_pad"] for one in batches]),
    }
    parts = [given[one.part] for one in chosen]
    without = absent_observations(given, features)
    if without:
        whole["observation_is_missing"] = {
            name: joined((), bool, [part.name in names or None for part in parts])
            for name, names in without.items()
        }
    masks = absent_actions(given, features)
    if masks:
        values = [_there(like, masks[part.name]) for part in parts]
        whole["action_is_missing"] = joined(features.action.shape, bool, values)
    return whole


def absent_observations(
    given: "Sequence[MixturePart]", features: Features
) -> dict[str, frozenset[str]]:
    """The names of the parts that lack an observation, for each that one lacks."""
    lacking = {
        name: frozenset(p.name for p in given if name not in p.windows.features.observation)
        for name in features.observation
    }
    return {name: parts for name, parts in lacking.items() if parts}


def absent_actions(given: "Sequence[MixturePart]", features: Features) -> Mapping[str, np.ndarray]:
    """Which action numbers each part lacks, bool [A], by its name; empty where none lacks any."""
    numbers = np.arange(features.action.shape[0])
    masks = {part.name: np.isin(numbers, part.entries, invert=True) for part in given}
    return masks if any(mask.any() for mask in masks.values()) else {}


def _zeros(like: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """An array, or a tensor on the device of a tensor."""
    if isinstance(like, np.ndarray):
        return np.zeros(shape, dtype)
    import torch

    return torch.zeros(shape, dtype=getattr(torch, dtype.name), device=like.device)


def _there(like: Any, array: np.ndarray) -> Any:
    """The array, or a tensor on the device of a tensor."""
    if isinstance(like, np.ndarray):
        return array
    import torch

    return torch.from_numpy(array).to(like.device)
