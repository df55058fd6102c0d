"""Several datasets in one training, each with its own keys, rate and share of the batches.

    part        frames a second    cameras            action          weight
    kitchen     10                 front, wrist       7 numbers       0.7
    lab         50                 front              6 numbers       0.3

A batch holds the policy's features. What a part lacks is zero there and marked: a row of `lab` has
no wrist camera (`observation_is_missing`), and no loss for the seventh number of its actions
(`action_is_missing`).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.loading.feature_reader import FrameMap
from dipole.data.loading.features import Features
from dipole.data.loading.mixture.batch import PartMasks, assemble, assemble_targets
from dipole.data.loading.mixture.checks import check_parts, common_targets
from dipole.data.loading.mixture.part_mapping import Both, Placement, Rescaling, rescaling
from dipole.data.loading.statistics import Statistics, joined_statistics, merged_statistics
from dipole.data.loading.window_source import Batch, PartRows
from dipole.data.loading.windows import Windows

NORMALIZERS = ("merged", "per_part")


@dataclass(frozen=True)
class MixturePart:
    """One dataset of a mixture.

    windows: Its windows, whose features are named as the policy's; some observations may be absent.
    weight: Its share of the batches, beside the other parts' weights.
    name: What it is called, in messages and checkpoints.
    action_entries: Which of the policy's action numbers its own are; default: the first ones.
    """

    windows: Windows
    weight: float
    name: str
    action_entries: tuple[int, ...] = ()

    @property
    def entries(self) -> tuple[int, ...]:
        """One for each of its own action numbers."""
        return self.action_entries or tuple(range(self.windows.features.action.shape[0]))


class Mixture:
    """The windows of several datasets; those of part 1 are numbered after part 0's, and so on.

    given: At least one part, all with the same window.
    features: The policy's.
    normalizer: "merged": one range for all parts. "per_part": each part's numbers are moved to that
        range by its own statistics, and a deployment says which part its robot is like.
    Raises ConfigError, naming the part, where one does not fit the features.
    """

    def __init__(
        self, given: Sequence[MixturePart], features: Features, normalizer: str = "merged"
    ) -> None:
        if normalizer not in NORMALIZERS:
            raise ConfigError(f"normalizer is {normalizer!r}: choose {' or '.join(NORMALIZERS)}")
        check_parts(given, features, same_units=normalizer == "merged")
        self.given, self.features, self.normalizer = tuple(given), features, normalizer
        self.spec = given[0].windows.spec
        self.targets = common_targets(given, same_units=normalizer == "merged")
        self.rescalings: list[dict[str, Rescaling]] = [{} for _ in given]
        self.target_rescalings: list[dict[str, Rescaling]] = [{} for _ in given]
        if normalizer == "per_part":
            self.rescalings = self._rescalings()
            self.target_rescalings = self._target_rescalings()
        self._show([part.windows for part in given])

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the parts."""
        return tuple(part.weight for part in self.given)

    def with_windows(self, windows: Sequence[Windows | None]) -> "Mixture | None":
        """The same mixture of other windows, e.g. of held-out episodes; None where there are none.

        windows: of each part, None or empty where it has none; the part is left out then.
        """
        chosen = [(n, one) for n, one in enumerate(windows) if one is not None and len(one)]
        if not chosen:
            return None
        other = copy.copy(self)
        other.given = tuple(self.given[n] for n, _ in chosen)
        other.rescalings = [self.rescalings[n] for n, _ in chosen]
        other.target_rescalings = [self.target_rescalings[n] for n, _ in chosen]
        other.__dict__.pop("_own_statistics", None)
        other._show([one for _, one in chosen])
        return other

    def __len__(self) -> int:
        return int(self._first[-1])

    def gather(self, indices: np.ndarray) -> Batch:
        """See `WindowSource.gather`."""
        chosen = self.by_part(indices)
        batches = [self.parts[one.part].gather(one.indices) for one in chosen]
        parts = self._part_of(indices)
        targets = assemble_targets(self.targets, self.spec.n_obs_steps, chosen, batches)
        return {**assemble(self.features, chosen, batches), **targets, **self.masks(parts)}

    def prefetch(self, indices: np.ndarray) -> None:
        """See `WindowSource.prefetch`."""
        for one in self.by_part(indices):
            self.parts[one.part].prefetch(one.indices)

    def by_part(self, indices: np.ndarray) -> list[PartRows]:
        """See `WindowSource.by_part`; raises IndexError for an index that no window has."""
        indices = np.asarray(indices, np.int64)
        if indices.ndim != 1 or not len(indices):
            raise IndexError(f"window indices of shape {indices.shape}: one axis is needed")
        if indices.min() < 0 or indices.max() >= len(self):
            raise IndexError(f"window {indices.min()} or {indices.max()} of {len(self)}")
        parts = self._part_of(indices)
        rows = {int(part): np.flatnonzero(parts == part) for part in np.unique(parts)}
        return [PartRows(p, here, indices[here] - self._first[p]) for p, here in rows.items()]

    def masks(self, parts: np.ndarray) -> Batch:
        """See `WindowSource.masks`."""
        return self._masks.of(parts)

    def statistics(self) -> dict[str, Statistics]:
        """Of each feature but images, over all parts that have it, by their weights.

        See `merged_statistics`; action numbers are merged one by one.
        """
        each = self._own_statistics
        numeric = [name for name, one in self.features.observation.items() if one.is_numeric]
        merged = {name: self._merged(each, name) for name in numeric}
        merged["action"] = self._of_action([s["action"] for s in each])
        return merged

    def target_statistics(self) -> dict[str, Statistics]:
        """Of each target, over all parts that have it, by their weights."""
        each = [part.windows.target_statistics() for part in self.given]
        return {name: self._merged(each, name) for name in self.targets}

    def _merged(self, each: Sequence[Mapping[str, Statistics]], name: str) -> Statistics:
        """each: Of each part, by name; some may lack it."""
        pairs = zip(each, self.given, strict=True)
        having = [(found[name], part.weight) for found, part in pairs if name in found]
        return merged_statistics(*zip(*having, strict=True))

    def rescaling_dict(self, part: int) -> dict[str, Any]:
        """How a part's numbers became the policy's, by feature, as plain JSON of the policy's
        shapes; empty where all parts share one range."""
        size, entries = self.features.action.shape[0], self.given[part].entries
        return {
            name: (one.spread(entries, size) if name == "action" else one).to_dict()
            for name, one in self.rescalings[part].items()
        }

    def held_dict(self, part: int) -> dict[str, list[Any]]:
        """Numbers of a part's actions that hardly move there, as plain JSON: which of the policy's
        they are, and the part's own limits; empty where all parts share one range."""
        if self.normalizer == "merged":
            return {}
        own, entries = self._own_statistics[part]["action"], self.given[part].entries
        found = np.flatnonzero(own.constant)
        return {
            "entries": [entries[number] for number in found],
            "low": own.min[found].tolist(),
            "high": own.max[found].tolist(),
        }

    def require_windows(self) -> None:
        """Raise DataError where a part has not a single window."""
        for part in self.parts:
            part.require_windows()

    def _show(self, windows: Sequence[Windows]) -> None:
        """Draw from these windows of the parts."""
        rescalings = zip(self.rescalings, self.target_rescalings, strict=True)
        self.parts = tuple(
            one.mapped(self._mappings(part, rescaled), of_targets)
            for one, part, (rescaled, of_targets) in zip(
                windows, self.given, rescalings, strict=True
            )
        )
        self._first = np.concatenate([[0], np.cumsum([len(part) for part in self.parts])])
        self._masks = PartMasks(self.given, self.features, self.targets)

    def _part_of(self, indices: np.ndarray) -> np.ndarray:
        part: np.ndarray = np.searchsorted(self._first, indices, side="right") - 1
        return part

    @cached_property
    def _own_statistics(self) -> list[dict[str, Statistics]]:
        """Of each part, of its own numbers."""
        return [part.windows.statistics() for part in self.given]

    def _of_action(self, each: Sequence[Statistics]) -> Statistics:
        """Of each action number, over the parts that have it."""
        numbers = []
        for number in range(self.features.action.shape[0]):
            having = [
                (statistics.entries([part.entries.index(number)]), part.weight)
                for statistics, part in zip(each, self.given, strict=True)
                if number in part.entries
            ]
            numbers.append(merged_statistics(*zip(*having, strict=True)))
        return joined_statistics(numbers)

    def _rescalings(self) -> list[dict[str, Rescaling]]:
        """Of each part, by feature, what takes its own range to the merged one; depth has units
        that all cameras share."""
        merged, named = self.statistics(), self.features.named()
        found = []
        for part, statistics in zip(self.given, self._own_statistics, strict=True):
            target = {**merged, "action": merged["action"].entries(part.entries)}
            of_part = {
                name: rescaling(named[name].normalize, own, target[name])
                for name, own in statistics.items()
                if named[name].kind != "depth"
            }
            found.append({name: one for name, one in of_part.items() if one is not None})
        return found

    def _target_rescalings(self) -> list[dict[str, Rescaling]]:
        """The same of each part's targets."""
        merged, found = self.target_statistics(), []
        for part in self.given:
            of_part = {
                name: rescaling(self.targets[name].feature.normalize, own, merged[name])
                for name, own in part.windows.target_statistics().items()
            }
            found.append({name: one for name, one in of_part.items() if one is not None})
        return found

    def _mappings(self, part: MixturePart, rescaled: dict[str, Rescaling]) -> dict[str, FrameMap]:
        """What a part's readers do after reading, by feature."""
        size = self.features.action.shape[0]
        mappings: dict[str, FrameMap] = dict(rescaled)
        if part.entries != tuple(range(size)):
            placement = Placement(part.entries, size)
            action = rescaled.get("action")
            mappings["action"] = placement if action is None else Both(action, placement)
        return mappings
