"""One feature of a dataset, read frame by frame: columns taken, transformed, in its own dtype."""

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.loading.features import TRANSFORMS, Feature
from dipole.data.store.store import EpisodeStore


class FeatureReader:
    """Reads one feature from a store, any frames of it.

    The transform is looked up once, so that a reader sent to a worker process takes its function
    along. Raises DataError where the store does not hold what the feature says.
    """

    def __init__(self, store: EpisodeStore, name: str, feature: Feature) -> None:
        self.feature = feature
        self._store = store
        self._key = feature.source or name
        self.where = f"{store.path}: feature {name!r}"
        self._transform = None if feature.transform is None else TRANSFORMS[feature.transform]
        self._check(store)

    @property
    def source_bytes(self) -> int:
        """Bytes of one stored frame, uncompressed."""
        return self._store[self._key].frame_bytes

    @property
    def chunk_length(self) -> int:
        """Frames that are stored in one chunk."""
        return self._store[self._key].chunk_length

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop): [stop - start, *shape], float32, or uint8 for images."""
        return self._convert(self._store[self._key].read(start, stop))

    def take(self, frames: np.ndarray) -> np.ndarray:
        """The frames with these numbers, int [...]: [..., *shape], float32, or uint8 for images.

        The transform sees each frame once, however often it is asked for.
        """
        if self.feature.kind == "image" and self._transform is None:
            return self._pictures(frames)
        wanted, where = np.unique(frames, return_inverse=True)
        taken = self._convert(self._store[self._key].take(wanted))
        return taken[where].reshape(*frames.shape, *self.feature.shape)

    def _pictures(self, frames: np.ndarray) -> np.ndarray:
        """Straight from the store: pictures are large, and each copy costs as much as decoding."""
        flat = self._store[self._key].take(np.asarray(frames).ravel())
        return self._convert(flat).reshape(*frames.shape, *self.feature.shape)

    def _convert(self, frames: np.ndarray) -> np.ndarray:
        try:
            return self.feature.apply(self._select(frames))
        except DataError as error:
            raise DataError(f"{self.where}: {error}") from error

    def _select(self, frames: np.ndarray) -> np.ndarray:
        """The robot's numbers: columns and transform."""
        if frames.ndim == 1:  # an array with one number per frame
            frames = frames[:, None]
        if self.feature.columns is not None:
            frames = frames[..., list(self.feature.columns)]
        if self._transform is not None:
            frames = self._transform(frames)
        return frames

    def _check(self, store: EpisodeStore) -> None:
        array, feature = store[self._key], self.feature
        stored = array.shape[1:] or (1,)
        if feature.columns is not None and max(feature.columns) >= stored[-1]:
            raise DataError(
                f"{self.where}: column {max(feature.columns)} of array {self._key!r}, "
                f"whose frames have shape {list(stored)}. Columns count from 0"
            )
        if feature.kind == "image" and array.dtype != np.uint8:
            raise DataError(
                f"{self.where}: array {self._key!r} is {array.dtype}; images are stored as uint8"
            )
        found = self._select(np.zeros((1, *array.shape[1:]), array.dtype)).shape[1:]
        if found != feature.stored_shape:
            before = " before convert" if feature.convert else ""
            raise DataError(
                f"{self.where}: shape {list(feature.stored_shape)} expected{before}, but array "
                f"{self._key!r} gives {list(found)}. Mend the shape, the columns or the source"
            )
