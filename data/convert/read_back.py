"""A store that was just written, read once more."""

from pathlib import Path

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.source import frame_ranges
from dipole.data.store.schema import FrameSchema
from dipole.data.store.store import EpisodeStore
from dipole.data.store.video import PacketTable, VideoError, video_error
from dipole.data.store.video_array import VideoArray


def read_back(folder: Path, n_frames: int) -> None:
    """Read everything that was written; raises DataError where something is missing or damaged.

    Video is not decoded, because it was not encoded either: its packets are counted.
    """
    with EpisodeStore.open(folder) as store:
        store.require_readable()
        if store.n_frames != n_frames:
            raise DataError(f"{folder}: {store.n_frames} frames of {n_frames}")
        for key in sorted(store.arrays):
            array = store[key]
            if isinstance(array, VideoArray):
                _count_packets(store, array)
                continue
            for start, stop in frame_ranges(FrameSchema(array.shape[1:], array.dtype), n_frames):
                array.read(start, stop)


def _count_packets(store: EpisodeStore, array: VideoArray) -> None:
    lengths = np.diff(store.episode_ends, prepend=0).tolist()
    for episode, length in enumerate(lengths):
        file = store.path / array.file(episode)
        try:
            there = len(PacketTable.of(file)) - array.first_frame(episode)
        except VideoError as error:
            raise video_error(str(file), error) from error
        if there < length:
            raise DataError(f"{file}: {there} frames of {length}")
