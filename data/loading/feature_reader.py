"""One feature of a dataset, read frame by frame: columns taken, transformed, in its own dtype."""

import copy
from collections.abc import Callable, Iterable

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.precision import is_float64
from dipole.data.core.units import units_text
from dipole.data.loading.features import TRANSFORMS, Feature
from dipole.data.loading.frame_selection import select_frames
from dipole.data.loading.image_values import as_uint8, image_range
from dipole.data.loading.statistics import read_plan
from dipole.data.loading.statistics_cache import source_code
from dipole.data.store.store import EpisodeStore

FrameMap = Callable[[np.ndarray], np.ndarray]
_HELD = {"image": "pictures", "depth": "depth"}


class FeatureReader:
    """Reads one feature from a store, any frames of it.

    The transform is looked up once, so that a reader sent to a worker process takes its function
    along. Raises DataError where the store does not hold what the feature says.
    """

    def __init__(self, store: EpisodeStore, name: str, feature: Feature) -> None:
        self.feature = feature
        self._store = store
        self.name, self.key = name, feature.source or name
        self.where = f"{store.path}: feature {name!r}"
        self._transform = None if feature.transform is None else TRANSFORMS[feature.transform]
        self._map: FrameMap | None = None
        self._range: int | None = 255  # of pictures; None: the transform takes what is stored
        self._check(store)
        self.shape = feature.shape

    def mapped(self, map: FrameMap | None) -> "FeatureReader":
        """The same feature, with what a mixture does to its numbers after all else.

        map: [N, *shape] -> [N, *another shape], float32.
        """
        if map is None:
            return self
        other = copy.copy(self)
        other._map = map
        other.shape = map(np.zeros((1, *self.shape), np.float32)).shape[1:]
        return other

    @property
    def is_mapped(self) -> bool:
        """Whether its numbers are those of a mixture."""
        return self._map is not None

    @property
    def source_bytes(self) -> int:
        """Bytes of one stored frame, uncompressed."""
        return self._store[self.key].frame_bytes

    @property
    def chunk_length(self) -> int:
        """Frames that are stored in one chunk."""
        return self._store[self.key].chunk_length

    @property
    def file_length(self) -> int:
        """Frames that lie in one file."""
        return self._store[self.key].file_length

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame as it is read."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.feature.dtype.itemsize

    def transform_code(self) -> str | None:
        """A hash of the source of transform and conversions; "" without any, None where one is
        unknown."""
        functions = [type(each.function) for each in self.feature.convert]
        codes = [source_code(each) for each in (self._transform, *functions) if each is not None]
        return None if None in codes else "".join(code or "" for code in codes)

    @property
    def note(self) -> str | None:
        """How pictures that are not stored as uint8 are taken."""
        dtype = self._store[self.key].dtype
        if self.feature.kind != "image" or self._range is None or dtype == np.uint8:
            return None
        return f"{self.where}: pictures from 0 to {self._range}, stored as {dtype}, become uint8"

    @property
    def is_stored_as_float64(self) -> bool:
        """Whether more is stored than `read` gives."""
        return is_float64(self._store[self.key].dtype)

    def read_exact(self, start: int, stop: int) -> np.ndarray:
        """As `read`, of numbers, before they become float32 and what a mixture makes of them."""
        stored = self._select(self._store[self.key].read(start, stop))
        try:
            return self.feature.conversions.apply(stored)
        except ValueError as error:
            raise DataError(f"{self.where}: convert: {error}") from error

    def require_depth_in_range(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Raise DataError where the range of depth holds nothing that these frames measured, so
        that a network would see one grey; reads until something is found.

        ranges: [start, stop) of frames.
        """
        depth = self.feature.depth_range
        if depth is None:
            return
        least, greatest = np.inf, 0.0
        for start, stop in read_plan(self, ranges):
            values = self.read_exact(start, stop)
            measured = values[(values > 0) & (values < np.inf)]
            if ((measured > depth.near) & (measured < depth.far)).any():
                return
            if len(measured):
                least, greatest = (
                    min(least, float(measured.min())),
                    max(greatest, float(measured.max())),
                )
        if greatest:
            unit = units_text(self.feature.units) or "a unit that is not recorded"
            raise DataError(
                f"{self.where}: no depth lies within its range [{depth.near:g}, {depth.far:g}]: "
                f"{self.key!r} holds {least:g} to {greatest:g}, in {unit}. Give the range in the "
                "unit that is stored"
            )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop): [stop - start, *shape], float32, or uint8 for images."""
        return self._convert(self._store[self.key].read(start, stop))

    def take(self, frames: np.ndarray) -> np.ndarray:
        """The frames with these numbers, int [...]: [..., *shape], float32, or uint8 for images.

        The transform sees each frame once, however often it is asked for.
        """
        if self.feature.kind == "image" and self._transform is None:
            return self._images(frames)
        wanted, where = np.unique(frames, return_inverse=True)
        taken = self._convert(self._store[self.key].take(wanted))
        return taken[where].reshape(*frames.shape, *self.shape)

    def prefetch(self, frames: np.ndarray) -> None:
        """Have the frames with these numbers, int [N], fetched in the background."""
        self._store[self.key].prefetch(frames)

    def _images(self, frames: np.ndarray) -> np.ndarray:
        """Straight from the store: pictures are large, and each copy costs as much as decoding."""
        flat = self._store[self.key].take(np.asarray(frames).ravel())
        return self._convert(flat).reshape(*frames.shape, *self.shape)

    def _convert(self, frames: np.ndarray) -> np.ndarray:
        try:
            converted = self.feature.apply(self._select(frames))
        except DataError as error:
            raise DataError(f"{self.where}: {error}") from error
        return converted if self._map is None else self._map(converted)

    def _select(self, frames: np.ndarray) -> np.ndarray:
        """The robot's numbers: columns and transform; pictures as uint8."""
        is_image = self.feature.kind == "image" and self._range is not None
        return select_frames(self.feature, frames, self._image if is_image else self._transform)

    def _image(self, frames: np.ndarray) -> np.ndarray:
        pictures = as_uint8(frames, self._range or 255)
        return pictures if self._transform is None else self._transform(pictures)

    def _check(self, store: EpisodeStore) -> None:
        array, feature = store[self.key], self.feature
        stored = array.shape[1:] or (1,)
        if feature.columns is not None and max(feature.columns) >= stored[-1]:
            raise DataError(
                f"{self.where}: column {max(feature.columns)} of array {self.key!r}, "
                f"whose frames have shape {list(stored)}. Columns count from 0"
            )
        if feature.kind == "image":
            top = image_range(array)
            if top is None and feature.transform is None:
                raise DataError(
                    f"{self.where}: array {self.key!r} is {array.dtype}, and its values are no "
                    "picture's: uint8, or whole numbers from 0 to 255, or 255ths from 0 to 1, is "
                    "needed. Convert it to uint8"
                )
            self._range = top
        self._check_pictures(store.schema(self.key)["kind"])
        found = self._select(np.zeros((1, *array.shape[1:]), array.dtype)).shape[1:]
        if found != feature.stored_shape:
            before = " before convert" if feature.convert else ""
            raise DataError(
                f"{self.where}: shape {list(feature.stored_shape)} expected{before}, but array "
                f"{self.key!r} gives {list(found)}. Mend the shape, the columns or the source"
            )

    def _check_pictures(self, stored: str) -> None:
        """Raise DataError for pictures or depth, of this kind in the dataset, taken as numbers."""
        feature = self.feature
        if (
            stored in ("image", "depth")
            and feature.kind in ("state", "action")
            and feature.transform is None
        ):
            raise DataError(
                f"{self.where}: the dataset holds {_HELD[stored]} in {self.key!r} (kind {stored}), "
                f"but the task has kind {feature.kind}: say kind: {stored}"
            )
