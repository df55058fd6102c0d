"""An episode of which some frames are taken, in order, some perhaps more than once."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dipole.data.sources.combine.wrapped import WrappedEpisode
from dipole.data.sources.source import EpisodeRef, SourceEpisode
from dipole.data.store.schema import FrameSchema
from dipole.data.store.tasks import TaskSpans

READ_FRAMES = 64  # of the episode that are read at once, most of which may not be taken


class PickedEpisode(WrappedEpisode):
    """Frames `numbers` of `episode`, int [n], not decreasing. Video is decoded."""

    def __init__(self, episode: SourceEpisode, ref: EpisodeRef, numbers: np.ndarray) -> None:
        super().__init__(episode, ref)
        self._numbers = numbers

    @property
    def n_frames(self) -> int:
        return len(self._numbers)

    @property
    def tasks(self) -> TaskSpans:
        """Each frame keeps its words; spans of which no frame is taken go."""
        spans: dict[int, str] = {}
        for first, words in self._episode.tasks:
            begin = int(np.searchsorted(self._numbers, first))
            if begin < len(self._numbers):
                spans[begin] = words  # of two that begin at one frame the later counts
        return tuple(sorted(spans.items()))

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        numbers = self._numbers[start:stop]
        bounds = np.searchsorted(numbers, np.arange(numbers[0], numbers[-1] + 1, READ_FRAMES))
        parts = [part for part in np.split(numbers, bounds[1:]) if len(part)]
        return np.concatenate([self._take(key, part) for part in parts])

    def _take(self, key: str, numbers: np.ndarray) -> np.ndarray:
        first = int(numbers[0])
        return np.asarray(self._episode.read(key, first, int(numbers[-1]) + 1)[numbers - first])

    def clip(self, key: str) -> None:
        return None


def without_video(frames: Mapping[str, FrameSchema]) -> dict[str, FrameSchema]:
    """The schema of frames that are decoded, and stored as pictures."""
    return {key: replace(schema, storage="") for key, schema in frames.items()}
