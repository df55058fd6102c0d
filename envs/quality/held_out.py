"""Observations that a policy was not trained on, and what was demonstrated there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data import Features, Mixture, WindowSource
from dipole.data.core.errors import ConfigError, DipoleError
from dipole.data.loading.task_data import TaskData


@dataclass(frozen=True)
class HeldOutMoment:
    """A held-out observation, {name: [To, *stored_shape]}, and where it was recorded, in words."""

    observation: Mapping[str, np.ndarray]
    where: str


@dataclass(frozen=True)
class HeldOut:
    """Windows of held-out episodes.

    observation: {name: [N, To, *stored_shape]}, in the robot's numbers, as `predict` takes them.
    action: What was demonstrated, [N, H, A], conversions applied, but absolute.
    scale: Standard deviation of each number of the training episodes' actions, [A]; 1 for numbers
        that do not move.
    features: Of the policy, none of them relative to another.
    dataset: Where they come from.
    windows: Of all held-out episodes, of which these are spread evenly.
    places: Where each was recorded, in words, N: its episode and the newest observed frame in it.
    """

    observation: Mapping[str, np.ndarray]
    action: np.ndarray
    scale: np.ndarray
    features: Features
    dataset: str
    windows: int
    places: Sequence[str]

    def __len__(self) -> int:
        return len(self.action)

    def demonstrated(self) -> np.ndarray:
        """The demonstrated chunks in the robot's numbers, [N, H, A']."""
        return self.features.action.invert(self.action)

    def standardized(self, chunks: np.ndarray, frames: slice) -> np.ndarray:
        """Those frames of chunks [..., H, A'] in the robot's numbers, as rows of numbers in
        standard deviations, [..., D]."""
        return self._rows(self.features.action.apply(chunks), frames)

    def standardized_action(self, frames: slice) -> np.ndarray:
        """Those frames of the demonstrated chunks, [N, D]."""
        return self._rows(self.action, frames)

    def moments(self, count: int) -> list[HeldOutMoment]:
        """Up to `count` of the observations, spread evenly over all of them."""
        named = self.observation.items()
        return [
            HeldOutMoment({name: values[row] for name, values in named}, self.places[row])
            for row in _spread(count, len(self))
        ]

    def _rows(self, action: np.ndarray, frames: slice) -> np.ndarray:
        rows: np.ndarray = action[..., frames, :].astype(float) / self.scale
        return rows.reshape(*rows.shape[:-2], -1)


def held_out_windows(
    config: Mapping[str, Any],
    where: str,
    frames: slice,
    count: int,
    dataset: str | None = None,
    part: str | None = None,
) -> HeldOut:
    """Up to `count` windows of the validation split of a checkpoint's run.

    config: The checkpoint's config.json. where: Its path, for messages. frames: Of a chunk, which
    must be real and not repeated. dataset: Where the data lies now. part: Of a mixture.
    Raises ConfigError where there is no such data, or it is not what the policy was trained on.
    """
    data = _open(config, where, dataset)
    windows, train = _source(data, where, part)
    chosen = _spread(count, len(windows))
    batch = windows.gather(chosen)
    kept = ~batch["action_is_pad"][:, frames].any(1)
    for lacking in batch.get("observation_is_missing", {}).values():
        kept &= ~lacking
    if "action_is_missing" in batch:
        kept &= ~batch["action_is_missing"].any(1)
    if not kept.any():
        raise ConfigError(f"{data.path}: no held-out window has all observations and actions")
    features = windows.features
    observation = {
        name: features.observation[name].invert(value[kept])
        for name, value in batch["observation"].items()
    }
    statistics = train.statistics()["action"]
    scale = np.where(statistics.constant, 1.0, statistics.std)
    places = _places(windows, chosen[kept])
    return HeldOut(
        observation, batch["action"][kept], scale, features, data.path, len(windows), places
    )


def _spread(count: int, size: int) -> np.ndarray:
    """Up to `count` numbers from 0 to before `size`, evenly apart, the first and the last among
    them."""
    return np.unique(np.linspace(0, size - 1, min(count, size)).astype(int))


def _places(windows: WindowSource, chosen: np.ndarray) -> list[str]:
    """Episode and current frame of these windows, in words; in a mixture also which dataset."""
    places = [""] * len(chosen)
    for rows in windows.by_part(chosen):
        part = windows.parts[rows.part]
        name = f"{windows.given[rows.part].name}   " if isinstance(windows, Mixture) else ""
        current = part.frames(rows.indices).observed[:, -1]
        episodes = np.searchsorted(part.store.episode_ends, current, side="right")
        frames = current - part.store.episode_starts[episodes]
        for row, episode, frame in zip(rows.rows, episodes, frames, strict=True):
            places[row] = f"{name}episode {episode}   frame {frame}"
    return places


def _open(config: Mapping[str, Any], where: str, dataset: str | None) -> TaskData:
    run = config.get("run") or {}
    if not run.get("task"):
        raise ConfigError(
            f"{where} does not say which task it was trained on, so that no held-out observations "
            "are known: set aspects=false"
        )
    try:
        data = TaskData.open(_absolute(run["task"]), dataset or run.get("dataset"))
    except DipoleError as error:
        raise ConfigError(
            f"aspects need the demonstrations that {where} was trained on: {error}. Where they "
            "moved, give dataset=PATH; without them set aspects=false"
        ) from error
    data.require_same(config.get("dataset") or {}, where)
    return data


def _absolute(task: Any) -> Any:
    """A task, or a part of one, that represents nothing: in what the network sees of windows that
    are relative to a pose, the pose is lost."""
    if isinstance(task, Mapping):
        return {key: _absolute(value) for key, value in task.items() if key != "represent"}
    return [_absolute(value) for value in task] if isinstance(task, list | tuple) else task


def _source(data: TaskData, where: str, part: str | None) -> tuple[WindowSource, WindowSource]:
    """Held-out windows and training windows, as the policy sees them."""
    held_out: WindowSource | None = data.validation
    train: WindowSource = data.train
    if data.has_own_ranges and part is not None:
        chosen = data.parts[data.names.index(part)]
        if chosen.train.features.action.shape != data.features.action.shape:
            raise ConfigError(
                f"dataset {part!r} has not all of the policy's actions: set aspects=false"
            )
        held_out, train = chosen.held_out, chosen.train
    if held_out is None or not len(held_out):
        raise ConfigError(
            f"{where}: no episode was held out (task.split.val_ratio is 0, or there is only one "
            "episode): train with task.split.val_ratio=0.02, or set aspects=false"
        )
    return held_out, train
