"""One dataset of a task: where it lies, what of it is used, and its windows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from dipole.data.core.episode_numbers import parse_episode_numbers
from dipole.data.core.errors import ConfigError, DataError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.core.registry import nearest
from dipole.data.loading.chunk_actions import window_counts
from dipole.data.loading.features import Features
from dipole.data.loading.recorded import as_recorded
from dipole.data.loading.split import split_episodes
from dipole.data.loading.window_spec import WindowSpec, frames_per_step
from dipole.data.loading.windows import Windows
from dipole.data.store.bundle import dataset_path
from dipole.data.store.store import EpisodeStore
from dipole.data.transforms.representation import Representation

FIELDS = ("path", "name", "weight", "fps", "episodes", "split", "observation", "action")


@dataclass(frozen=True)
class PartConfig:
    """One entry of a task's `datasets`.

    path: A dataset, or "bundled:NAME".
    name: What it is called; by default the path's last word.
    weight: Its share of the batches, beside the others'; None: by its number of windows.
    fps: Frames per second, where the dataset does not record them.
    episodes: Those that are used: numbers, or a text such as "0-9,12"; None: all.
    split: As the task's, for this dataset alone.
    features: What is read of it, named as the policy's.
    entries: Which of the policy's action numbers its own are; empty: the first ones.
    """

    path: str
    name: str
    weight: float | None
    fps: float | None
    episodes: tuple[int, ...] | None
    split: Mapping[str, Any]
    features: Features
    entries: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], task: Mapping[str, Any]) -> "PartConfig":
        """values: the entry. task: gives what the entry does not. Raises ConfigError."""
        if not isinstance(values, Mapping) or not isinstance(values.get("path"), str):
            raise ConfigError(f"task.datasets: {values!r}: a table with a path is needed")
        for name in values:
            if name not in FIELDS:
                hint = nearest(str(name), FIELDS) or "."
                raise ConfigError(f"task.datasets has no {name!r}{hint} Known: {', '.join(FIELDS)}")
        path = values["path"]
        name = values.get("name") or path.rstrip("/").rpartition("/")[2]
        fps = values.get("fps", task.get("fps"))
        observation = _overridden(
            name, task["observation"], _table(f"dataset {name!r}", values, "observation")
        )
        own_action = _table(f"dataset {name!r}", values, "action")
        action, entries = _action(name, task["action"], own_action, task["observation"])
        own = {"observation": observation, "action": action, "fps": fps}
        split = checked_split(values.get("split", task.get("split")))
        episodes = _episodes(name, values.get("episodes"))
        try:
            features = Features.from_dict(own)
        except ConfigError as error:
            raise ConfigError(f"dataset {name!r}: {error}") from error
        return cls(path, name, values.get("weight"), fps, episodes, split, features, entries)


@dataclass(frozen=True)
class TaskPart:
    """A dataset that is open, and the windows of its training and held-out episodes.

    train, held_out: Of the episodes that have windows; held_out is empty where there are none.
    n_chosen: Episodes that were chosen.
    n_with_windows: Those of them that are long enough for a window.
    """

    config: PartConfig
    store: EpisodeStore
    train: Windows
    held_out: Windows
    n_chosen: int
    n_with_windows: int

    def describe(self) -> dict[str, Any]:
        """What a checkpoint says of the dataset."""
        return {
            "path": str(self.store.path),
            "fingerprint": self.store.fingerprint(),
            "episodes": self.store.n_episodes,
            "frames": self.store.n_frames,
            "training_episodes": [int(episode) for episode in self.train.episodes],
        }


@dataclass(frozen=True)
class OpenedPart:
    """A dataset that is open, with what it records of its numbers, before windows are chosen."""

    config: PartConfig
    store: EpisodeStore
    features: Features

    @classmethod
    def open(cls, config: PartConfig) -> "OpenedPart":
        """Raises DataError and ConfigError where the dataset is not what the task says."""
        store = EpisodeStore.open(dataset_path(config.path))
        return cls(config, store, as_recorded(config.features, store))

    def windows(self, spec: WindowSpec, policy_hz: float | None) -> TaskPart:
        """policy_hz: steps per second, None: a step is a frame."""
        step = self._step(policy_hz)
        features = self.features if policy_hz is None else replace(self.features, fps=policy_hz)
        chosen = chosen_episodes(self.config, self.store)
        counts = window_counts(self.store, spec, features.action, step)
        long_enough = chosen[counts[chosen] > 0]
        if not len(long_enough):
            Windows(self.store, spec, features, chosen, step).require_windows()
        train, held_out = split_episodes(len(long_enough), **self.config.split)
        return TaskPart(
            self.config,
            self.store,
            Windows(self.store, spec, features, long_enough[train], step),
            Windows(self.store, spec, features, long_enough[held_out], step),
            len(chosen),
            len(long_enough),
        )

    def _step(self, policy_hz: float | None) -> Fraction:
        if policy_hz is None:
            return Fraction(1)
        if self.features.fps is None:
            raise ConfigError(
                f"{self.store.path} does not record its frames per second, which policy_hz needs: "
                "say fps in the task"
            )
        try:
            return frames_per_step(self.features.fps, policy_hz)
        except ConfigError as error:
            raise ConfigError(f"{self.store.path}: {error}") from error


def checked_split(values: Any) -> dict[str, Any]:
    """A task's `split`; raises ConfigError where it is none."""
    if values is None:
        return {}
    return from_mapping(_split, values, "task.split")


def _split(val_ratio: float = 0.02, seed: int = 42, max_train: int | None = None) -> dict[str, Any]:
    """Parameters of split_episodes; raises ConfigError for what cannot be split by."""
    split_episodes(1, val_ratio, seed, max_train)
    return {"val_ratio": val_ratio, "seed": seed, "max_train": max_train}


def chosen_episodes(config: PartConfig, store: EpisodeStore) -> np.ndarray:
    """Ids of the episodes that are used, int64; raises DataError for one that is not there."""
    if config.episodes is None:
        every: np.ndarray = np.arange(store.n_episodes)
        return every
    ids = np.array(config.episodes, np.int64)
    outside = ids[ids >= store.n_episodes]
    if len(outside):
        raise DataError(
            f"{store.path}: no episode {outside[0]}; there are {store.n_episodes}, counted from 0"
        )
    return ids


def _overridden(
    name: str, policy: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """A part's observations: the policy's with its own entries, less those that are null."""
    for key in own:
        if key not in policy:
            hint = nearest(str(key), policy) or "."
            raise ConfigError(
                f"dataset {name!r}: the policy has no observation {key!r}{hint} It has: "
                f"{', '.join(policy)}"
            )
    return {
        key: {**_table("task.observation", policy, key), **_table(f"dataset {name!r}", own, key)}
        for key in policy
        if key not in own or own[key] is not None
    }


def _table(where: str, values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """What `values` has under a key, {} where it has nothing; raises ConfigError for no table."""
    table = values.get(key) or {}
    if not isinstance(table, Mapping):
        raise ConfigError(
            f"{where}: {key} is {table!r}: a table, such as {{shape: [2]}}, is needed"
        )
    return table


def _action(
    name: str, policy: Mapping[str, Any], own: Mapping[str, Any], observation: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """A part's action, with the names and units of its entries; and which entries these are."""
    fields = {key: value for key, value in own.items() if key != "entries"}
    entries = own.get("entries") or ()
    if isinstance(entries, str) or not all(type(entry) is int for entry in entries):
        raise ConfigError(
            f"dataset {name!r}, action: entries {entries!r}: whole numbers are needed"
        )
    shape = fields.get("shape")
    size = shape[0] if isinstance(shape, list | tuple) and shape and type(shape[0]) is int else 0
    chosen = tuple(entries) or range(size)
    listed = {
        key: [policy[key][entry] for entry in chosen if 0 <= entry < len(policy[key])]
        for key in ("names", "units")
        if chosen and isinstance(policy.get(key), list | tuple)
    }
    made = {**policy, **listed, **fields}
    if chosen and "represent" in policy and "represent" not in fields:
        made["represent"] = _of_entries(name, policy["represent"], chosen, observation)
    return made, tuple(entries)


def _of_entries(
    name: str, represent: Any, entries: Sequence[int], observation: Mapping[str, Any]
) -> Representation | None:
    """The policy's representation, of a part's own action numbers."""
    shapes = {key: (entry or {}).get("shape") for key, entry in observation.items()}
    sizes = {key: shape[0] for key, shape in shapes.items() if isinstance(shape, list | tuple)}
    try:
        whole = Representation.from_dict(represent)
        return None if whole is None else whole.for_entries(entries, sizes)
    except ConfigError as error:
        raise ConfigError(f"dataset {name!r}, action: {error}") from error


def _episodes(name: str, said: Any) -> tuple[int, ...] | None:
    if said is None:
        return None
    if isinstance(said, str):
        return parse_episode_numbers(said)
    if isinstance(said, int) and not isinstance(said, bool):
        said = [said]
    sound = isinstance(said, Sequence) and all(type(number) is int for number in said)
    if not sound or not said or min(said) < 0 or len(set(said)) < len(said):
        raise ConfigError(
            f'dataset {name!r}: episodes {said!r}: different numbers, or a text such as "0-9,12"'
        )
    return tuple(said)
