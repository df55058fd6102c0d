"""An episode store as a source: Diffusion Policy's zarr, or our own, to be stored another way."""

from pathlib import Path

import numpy as np

from dipole.data.sources.source import SourceEpisode, SourceInfo
from dipole.data.store.schema import FrameSchema
from dipole.data.store.store import EpisodeStore
from dipole.data.store.video import Clip
from dipole.data.store.video_array import VideoArray


class StoreSource:
    """Reads the store at `path`; see `Source`."""

    def __init__(self, path: Path) -> None:
        self._store = store = EpisodeStore.open(path)
        lengths = np.diff(store.episode_ends, prepend=0).tolist()
        episodes = [
            SourceEpisode(number, length, task)
            for number, (length, task) in enumerate(zip(lengths, store.tasks, strict=True))
        ]
        frames = {key: FrameSchema.from_dict(key, store.schema(key)) for key in store.arrays}
        store.require_readable()
        ours = "dipole_format" in store.attributes
        name = "episode store" if ours else "zarr of Diffusion Policy"
        self.about = SourceInfo(path, name, frames, episodes, store.fps, store.environment)

    def read(self, episode: SourceEpisode, key: str, start: int, stop: int) -> np.ndarray:
        first = int(self._store.episode_starts[episode.number])
        return self._store[key].read(first + start, first + stop)

    def clip(self, episode: SourceEpisode, key: str) -> Clip | None:
        array = self._store[key]
        if not isinstance(array, VideoArray) or self._store.path.is_file():
            return None
        file = self._store.path / array.file(episode.number)
        first = array.first_frame(episode.number)
        return Clip(file, first, episode.n_frames, array.shape[1:])
