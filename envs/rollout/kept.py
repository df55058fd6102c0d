"""What an episode showed and did at every step, kept for a dataset."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.recording.record import ACTION, Frames
from dipole.data.store.tasks import TaskSpans

REWARD = "reward"  # a stored key: of the step that follows upon a frame's action
Read = Callable[[Any], Mapping[str, Any]]  # an observation -> {stored key: array}, and words


@dataclass(frozen=True)
class KeptEpisode:
    """frames: {key: [T, *shape]} with "action" and "reward". words: Spans (first frame, words) of
    what was to be done; empty where nobody said it."""

    frames: dict[str, np.ndarray]
    words: TaskSpans = ()


class Keeper:
    """Keeps the episode of a simulator; read: what is kept of an observation."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._frames = Frames()
        self._seen: dict[str, Any] = {}

    def start(self, observation: Any) -> None:
        """The first observation of an episode."""
        self._frames, self._seen = Frames(), dict(self._read(observation))

    def add(self, action: np.ndarray, reward: float) -> None:
        """What was done upon the newest observation, and what it brought."""
        self._frames.add(self._seen)
        self._frames.add({ACTION: np.asarray(action, np.float32), REWARD: np.float32(reward)})

    def look(self, observation: Any) -> None:
        """What was seen then."""
        self._seen = dict(self._read(observation))

    def episode(self) -> KeptEpisode:
        """All of it."""
        return KeptEpisode(self._frames.arrays(), tuple(self._frames.words))
