"""Episodes in memory as a source, for the tests of operations on sources."""

from pathlib import Path

import numpy as np

from dipole.data.sources.source import ArrayEpisode, EpisodeRef, SourceInfo
from dipole.data.store.schema import FrameSchema


class MemorySource:
    """Episodes in memory: a list of {key: array}; counts what is asked of it."""

    def __init__(self, episodes, names=None, tasks=(), **info):
        self._episodes = [
            ArrayEpisode(EpisodeRef(n, len(next(iter(arrays.values())))), arrays, tasks)
            for n, arrays in enumerate(episodes)
        ]
        frames = {
            key: FrameSchema(
                array.shape[1:],
                array.dtype,
                "action" if key == "action" else "state",
                names=(names or {}).get(key, ()),
            )
            for key, array in episodes[0].items()
        }
        self.info = SourceInfo(
            **{"path": Path("memory"), "format": "memory", "frames": frames, **info}
        )
        self.opened = []

    def episodes(self):
        return [episode.ref for episode in self._episodes]

    def open(self, ref):
        self.opened.append(ref.id)
        return self._episodes[ref.id]

    def close(self):
        pass


def pair(n=3, **more):
    return {"state": np.zeros((n, 2), np.float32), "action": np.ones((n, 2), np.float32), **more}


def frames(source, key, episode=0):
    opened = source.open(source.episodes()[episode])
    return opened.read(key, 0, opened.n_frames)
