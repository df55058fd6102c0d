"""An episode store as a source: Diffusion Policy's zarr, or our own, to be stored another way."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dipole.data.sources.source import (
    EpisodeRef,
    SourceEpisode,
    SourceInfo,
    TaskSpans,
    task_spans,
)
from dipole.data.store.schema import FrameSchema
from dipole.data.store.store import EpisodeStore
from dipole.data.store.video import Clip
from dipole.data.store.video_array import VideoArray


class StoreSource:
    """Reads the store at `path`; see `Source`."""

    def __init__(self, path: Path) -> None:
        self._store = store = EpisodeStore.open(path)
        lengths = np.diff(store.episode_ends, prepend=0).tolist()
        self._refs = [EpisodeRef(number, length) for number, length in enumerate(lengths)]
        frames = {key: FrameSchema.from_dict(key, store.schema(key)) for key in store.arrays}
        ours = "dipole_format" in store.attributes
        name = "episode store" if ours else "zarr of Diffusion Policy"
        self._starts = store.episode_starts.tolist()
        self.info = SourceInfo(path, name, frames, store.fps, store.environment)

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        return _Episode(self._store, self._refs[ref.id], self._starts[ref.id])

    def close(self) -> None:
        pass


class _Episode:
    def __init__(self, store: EpisodeStore, ref: EpisodeRef, start: int) -> None:
        self._store, self.ref, self._start = store, ref, start
        self.n_frames = ref.n_frames or 0
        self.tasks: TaskSpans = task_spans(store.tasks[ref.id])

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        return self._store[key].read(self._start + start, self._start + stop)

    def clip(self, key: str) -> Clip | None:
        array = self._store[key]
        if not isinstance(array, VideoArray) or self._store.path.is_file():
            return None
        file = self._store.path / array.file(self.ref.id)
        return Clip(file, array.first_frame(self.ref.id), self.n_frames, array.shape[1:])
