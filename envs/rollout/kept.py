"""What an episode showed and did at every step, kept for a dataset."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.recording.record import ACTION, Frames
from dipole.data.store.tasks import TaskSpans
from dipole.envs.interpreter.standalone.divergence import is_finite

REWARD = "reward"  # a stored key: of the step that follows upon a frame's action
Read = Callable[[Any], Mapping[str, Any]]  # an observation -> {stored key: array}, and words


@dataclass(frozen=True)
class KeptEpisode:
    """frames: {key: [T, *shape]} with "action" and "reward". words: Spans (first frame, words) of
    what was to be done; empty where nobody said it."""

    frames: dict[str, np.ndarray]
    words: TaskSpans = ()


class Keeper:
    """Keeps the episode of a simulator, up to where it is finite; read: what is kept of an
    observation."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._frames = Frames()
        self._seen: dict[str, Any] | None = {}

    def start(self, observation: Any) -> None:
        """The first observation of an episode."""
        self._frames, self._seen = Frames(), dict(self._read(observation))

    def add(self, action: np.ndarray, reward: float, observation: Any) -> None:
        """What was done upon the newest observation, what it brought, and what was seen then; None
        for the observation where the episode is over."""
        if self._seen is None:
            return
        self._frames.add(self._seen)
        self._frames.add({ACTION: np.asarray(action, np.float32), REWARD: np.float32(reward)})
        seen = {} if observation is None else dict(self._read(observation))
        self._seen = seen if is_finite(seen) else None

    def episode(self) -> KeptEpisode:
        """All of it."""
        return KeptEpisode(self._frames.arrays(), tuple(self._frames.words))
