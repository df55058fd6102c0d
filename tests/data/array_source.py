"""Arrays in memory as a source, for the tests of what changes frames and columns."""

from pathlib import Path

import numpy as np
from hypothesis import settings

from dipole.data.sources.source import ArrayEpisode, EpisodeRef, SourceInfo
from dipole.data.store.schema import FrameSchema

SETTINGS = settings(max_examples=100, deadline=None, derandomize=True, database=None)


class ArraySource:
    """Episodes in memory."""

    def __init__(self, *episodes, fps=10.0, tasks=(), **meaning):
        self.arrays = [{k: np.asarray(v) for k, v in episode.items()} for episode in episodes]
        frames = {
            key: FrameSchema(
                array.shape[1:],
                array.dtype,
                "action" if key == "action" else "image" if array.ndim == 4 else "state",
                **meaning.get(key, {}),
            )
            for key, array in self.arrays[0].items()
        }
        self.info = SourceInfo(Path("memory"), "arrays", frames, fps)
        self.tasks = tasks

    def episodes(self):
        return [EpisodeRef(n, len(next(iter(a.values())))) for n, a in enumerate(self.arrays)]

    def open(self, ref):
        return ArrayEpisode(self.episodes()[ref.id], self.arrays[ref.id], self.tasks)

    def close(self):
        pass


def whole(source, key, episode=0):
    opened = source.open(source.episodes()[episode])
    return opened.read(key, 0, opened.n_frames)


def column(*numbers):
    return np.array(numbers, np.float32)[:, None]


def waiting():
    """1 s still, 2 s of motion with 1.5 s still in the middle, 2 s still; 10 frames a second."""
    path = np.concatenate(
        [
            np.zeros(10),
            np.linspace(0.1, 1, 10),
            np.ones(15),
            np.linspace(1.1, 2, 10),
            2 * np.ones(20),
        ]
    )
    noise = 0.002 * np.random.default_rng(0).standard_normal(len(path))
    return np.float32(path + noise)[:, None]
