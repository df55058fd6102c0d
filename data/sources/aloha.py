"""ALOHA's HDF5 as a source: one file an episode, with /action and /observations/<key>.

observations/qpos becomes qpos, observations/images/top becomes images.top. Images that were
compressed, each a JPEG padded to the longest, are decoded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.encoded_images import decode_frame, image_shape
from dipole.data.sources.hdf5_file import Hdf5Episode, Hdf5File, hdf5_frames
from dipole.data.sources.registry import sorted_by_number
from dipole.data.sources.source import (
    EpisodeRef,
    SourceEpisode,
    SourceInfo,
    SourceWarnings,
)
from dipole.data.store.schema import FrameSchema

ENDINGS = (".hdf5", ".h5")
IMAGES = "observations/images/"


class AlohaSource(SourceWarnings):
    """Reads the file `path`, or the files in the folder `path`; see `Source`."""

    def __init__(self, path: Path) -> None:
        files = [path] if path.is_file() else [f for f in path.iterdir() if f.suffix in ENDINGS]
        if not files:
            raise DataError(f"{path}: no HDF5 files in it")
        self._files = sorted_by_number(files)
        self._refs = [EpisodeRef(n, name=file.stem) for n, file in enumerate(self._files)]
        first = Hdf5File(self._files[0])
        self._places, left_out = _arrays(first)
        if "action" not in self._places:
            raise DataError(f"{first.path}: no array /action: not ALOHA's layout")
        frames = hdf5_frames(first, "", self._places)
        self._encoded = {
            key: frame
            for key, place in self._places.items()
            if place.startswith(IMAGES) and (frame := _encoded(first, place)) is not None
        }
        keys = {**frames, **self._encoded}
        super().__init__(SourceInfo(path, "ALOHA", keys, left_out=left_out))
        self._known = {*self._places.values(), *left_out}
        self._stored = frames
        first.close()

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        file = Hdf5File(self._files[ref.id])
        places, _ = _arrays(file)
        self.warn_of_others(places.values(), self._known)
        actions = file.array(self._places["action"])
        n = 0 if actions is None or not actions.ndim else int(actions.shape[0])
        stored = dict(self._stored)
        for key in self._encoded:  # padded to the longest of its own episode
            array = file.array(self._places[key])
            if array is not None and array.ndim == 2:
                stored[key] = replace(stored[key], shape=(int(array.shape[1]),))
        known = replace(ref, n_frames=n)
        lengths = dict.fromkeys(self._places, n)
        episode = Hdf5Episode(file, known, "", self._places, stored, lengths)
        return _Episode(episode, file, self._encoded)

    def close(self) -> None:
        pass


class _Episode:
    """An episode whose compressed images are decoded; its file is closed with it."""

    def __init__(
        self, episode: Hdf5Episode, file: Hdf5File, encoded: Mapping[str, FrameSchema]
    ) -> None:
        self._episode, self._file, self._encoded = episode, file, encoded
        self.ref, self.n_frames, self.tasks = episode.ref, episode.n_frames, episode.tasks

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        stored = self._episode.read(key, start, stop)
        if key not in self._encoded:
            return stored
        shape = self._encoded[key].shape or ()
        frames = np.empty((len(stored), *shape), np.uint8)
        for n, raw in enumerate(stored):
            where = f"{self._file.path}: {key!r}, frame {start + n}"
            frames[n] = decode_frame(raw.tobytes(), shape, where)
        return frames

    def clip(self, key: str) -> None:
        return None


def _arrays(file: Hdf5File) -> tuple[dict[str, str], dict[str, str]]:
    places: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for place, _, why in file.arrays(""):
        key = place.removeprefix("observations/").replace("/", ".")
        if place == "compress_len":
            continue
        if why:
            left_out[place] = why
        elif key in places:
            left_out[place] = f"a key is called {key!r} already"
        else:
            places[key] = place
    return dict(sorted(places.items())), left_out


def _encoded(file: Hdf5File, place: str) -> FrameSchema | None:
    """The schema of compressed images, None for an array of pixels."""
    array = file.array(place)
    if array is None or array.ndim != 2 or array.dtype != np.uint8 or not len(array):
        return None
    shape = image_shape(file.read(place, 0, 1)[0].tobytes())
    return None if shape is None else FrameSchema(shape, np.dtype(np.uint8), "image")
