"""An episode of which some frames are taken, in order, some perhaps more than once."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dipole.data.sources.combine.clip_frames import ClipFrames
from dipole.data.sources.combine.wrapped import WrappedEpisode
from dipole.data.sources.source import EpisodeRef, SourceEpisode, TaskSpans
from dipole.data.store.schema import FrameSchema

CLIP_FPS = 30.0  # of the temporary copy that is decoded: any rate will do


class PickedEpisode(WrappedEpisode):
    """Frames `numbers` of `episode`, int [n], not decreasing; place: begins error messages."""

    def __init__(
        self, episode: SourceEpisode, ref: EpisodeRef, numbers: np.ndarray, place: str
    ) -> None:
        super().__init__(episode, ref)
        self._numbers, self._place = numbers, place
        self._clips: dict[str, ClipFrames] = {}

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
        clip = self._episode.clip(key)
        if clip is not None:
            if key not in self._clips:
                self._close()  # one after another: an episode may have many cameras
                self._clips[key] = ClipFrames(clip, CLIP_FPS, f"{self._place}, {key!r}")
            return self._clips[key].take(numbers.tolist())
        first = int(numbers[0])
        return np.asarray(self._episode.read(key, first, int(numbers[-1]) + 1)[numbers - first])

    def clip(self, key: str) -> None:
        return None

    def _close(self) -> None:
        for clip in self._clips.values():
            clip.close()
        self._clips.clear()


def without_video(frames: Mapping[str, FrameSchema]) -> dict[str, FrameSchema]:
    """The schema of frames that are decoded, and stored as pictures."""
    return {key: replace(schema, storage="") for key, schema in frames.items()}
