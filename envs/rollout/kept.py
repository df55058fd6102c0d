"""What an episode showed and did at every step, kept for a dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dipole.data.recording.record import ACTION, Frames
from dipole.data.store.tasks import TaskSpans
from dipole.envs.interpreter.standalone.divergence import is_finite

REWARD = "reward"  # a stored key: of the step that follows upon a frame's action


class KeptKeys(Protocol):
    """What is kept of an observation."""

    @property
    def finite(self) -> Mapping[str, str]:
        """{stored key: entry} of what has to be finite."""

    def read(self, observation: Any) -> Mapping[str, Any]:
        """{stored key: array [*shape]}, and words."""


@dataclass(frozen=True)
class KeptEpisode:
    """frames: {key: [T, *shape]} with "action" and "reward". words: Spans (first frame, words) of
    what was to be done; empty where nobody said it."""

    frames: dict[str, np.ndarray]
    words: TaskSpans = ()


class Keeper:
    """Keeps the episode of a simulator, up to where it is finite; keys: of an observation.

    Depth that says by NaN or infinity that nothing was measured is kept as 0, as in recordings.
    """

    def __init__(self, keys: KeptKeys) -> None:
        self._keys = keys
        self._frames = Frames()
        self._seen: dict[str, Any] | None = {}

    def start(self, observation: Any) -> None:
        """The first observation of an episode."""
        self._frames, self._seen = Frames(), self._read(observation)

    def add(self, action: np.ndarray, reward: float, observation: Any) -> None:
        """What was done upon the newest observation, what it brought, and what was seen then; None
        for the observation where the episode is over."""
        if self._seen is None:
            return
        self._frames.add(self._seen)
        self._frames.add({ACTION: np.asarray(action, np.float32), REWARD: np.float32(reward)})
        seen = {} if observation is None else self._read(observation)
        finite = is_finite({key: seen[key] for key in self._keys.finite if key in seen})
        self._seen = seen if finite else None

    def _read(self, observation: Any) -> dict[str, Any]:
        seen = dict(self._keys.read(observation))
        for key in seen.keys() - self._keys.finite.keys():
            depth = seen[key]
            if isinstance(depth, np.ndarray) and depth.dtype.kind == "f":
                seen[key] = np.where(np.isfinite(depth), depth, depth.dtype.type(0))
        return seen

    def episode(self) -> KeptEpisode:
        """All of it."""
        return KeptEpisode(self._frames.arrays(), tuple(self._frames.words))
