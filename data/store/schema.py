"""What the frames of a dataset look like, and whether an episode fits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.precision import is_float64, loses_precision, steps_vanish
from dipole.data.core.registry import nearest
from dipole.data.core.units import Units, read_units
from dipole.data.store.video import Clip

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_KINDS = ("state", "image", "depth", "action")
_DEPTH_DTYPES = ("float32", "uint16")
_LONGEST_KEY = 200  # characters: file systems take 255, and endings are added
_TAKEN = ("zarr.json",)


def check_key(where: str, key: object) -> str:
    """The key itself; raises DataError where it is no plain name, of which a path could be made."""
    if not isinstance(key, str) or not _KEY.fullmatch(key) or key in _TAKEN:
        raise DataError(f"{where}: key {key!r}; use letters, digits, '_', '-' and '.'")
    if len(key) > _LONGEST_KEY:
        raise DataError(f"{where}: key {key[:40]!r}... has {len(key)} characters; use fewer")
    return key


def is_stored_as_image(schema: "FrameSchema") -> bool:
    """Whether frames may be stored by a codec for pictures: images in grey or colour.

    Not label maps, tactile arrays or depth, which such a codec would change or refuse.
    """
    shape = schema.shape or ()
    uint8 = np.dtype(schema.dtype) == np.uint8
    return uint8 and schema.kind == "image" and len(shape) == 3 and shape[2] in (1, 3)


def is_image(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether frames are taken for images where nobody says what they are: uint8, 1 to 4 channels.

    shape: of one frame.
    """
    return dtype == np.uint8 and len(shape) == 3 and shape[-1] in (1, 3, 4)


def looks_channels_first(shape: tuple[int, ...]) -> bool:
    """Whether frames may be pictures [channels, height, width]. shape: of one frame."""
    return len(shape) == 3 and shape[0] in (1, 3, 4) and min(shape[1:]) > 4


def _names(said: Any) -> tuple[str, ...]:
    # Other tools nest them: {"motors": [...]}, [[...]].
    if isinstance(said, Mapping) and len(said) == 1:
        said = next(iter(said.values()))
    if isinstance(said, list | tuple) and len(said) == 1 and isinstance(said[0], list | tuple):
        said = said[0]
    if said is not None and not isinstance(said, list | tuple):
        raise TypeError(f"names {said!r}: a list with one for each number")
    return tuple(map(str, said or ()))


def default_kind(key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """The kind of a key of which nobody says it: action, image, depth (float32 or uint16 [height,
    width, 1] under a name that ends in "depth") or state."""
    if key == "action":
        return "action"
    if is_image(shape, dtype):
        return "image"
    is_depth = len(shape) == 3 and shape[2] == 1 and dtype in (np.float32, np.uint16)
    return "depth" if is_depth and key.lower().endswith("depth") else "state"


@dataclass(frozen=True)
class FrameSchema:
    """One key: shape and dtype of a frame (None until known), its kind and units.

    kind: "state", "image" (uint8), "depth" (float32 or uint16, [height, width] or
    [height, width, 1], distances in `units`), "action", or "" to be told by key, shape and dtype.
    units: Of all its numbers, or one for each entry of the last axis.
    names: Of the entries of a vector, e.g. joints.
    storage: "video", or "" for an array.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("kind", "shape", "dtype", "units", "names", "storage")

    shape: tuple[int, ...] | None = None
    dtype: np.dtype[Any] | None = None
    kind: str = ""
    units: Units = ""
    names: tuple[str, ...] = ()
    storage: str = ""

    @classmethod
    def from_dict(cls, key: str, entry: Mapping[str, Any]) -> "FrameSchema":
        """From what a caller says of a key; raises DataError for what cannot be said."""
        where = f"features[{key!r}]"
        for name in entry:
            if name not in cls.FIELDS:
                hint = nearest(name, cls.FIELDS)
                raise DataError(
                    f"{where} has no field {name!r}{hint or '.'} Known: {', '.join(cls.FIELDS)}"
                )
        kind = entry.get("kind", "")
        if kind and kind not in _KINDS:
            raise DataError(f"{where}: kind {kind!r}{nearest(kind, _KINDS) or '.'} Known: {_KINDS}")
        try:
            shape = tuple(int(n) for n in entry["shape"]) if "shape" in entry else None
            dtype = np.dtype(entry["dtype"]) if "dtype" in entry else None
            units = read_units(entry.get("units"))
            names = _names(entry.get("names"))
        except (TypeError, ValueError) as error:
            raise DataError(f"{where}: {error}") from error
        if dtype is not None and dtype.kind not in "biuf":
            raise DataError(f"{where}: dtype {dtype}; only numbers are stored")
        schema = cls(shape, dtype, kind, units, names, str(entry.get("storage", "")))
        schema._check_entries(where)
        return schema

    def _check_entries(self, where: str) -> None:
        """Raise DataError unless names, units, shape and dtype fit each other and the kind."""
        if self.kind == "depth" and self.dtype is not None and self.dtype.name not in _DEPTH_DTYPES:
            raise DataError(f"{where}: depth of {self.dtype}; it is {' or '.join(_DEPTH_DTYPES)}")
        if self.shape is None:
            return
        flat = len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[2] == 1)
        if self.kind == "depth" and not flat:
            raise DataError(
                f"{where}: depth of shape {list(self.shape)}; it is [height, width, 1] or "
                "[height, width]"
            )
        if self.names and (len(self.names),) != (self.shape or (1,)):
            raise DataError(
                f"{where}: {len(self.names)} names for frames of shape {list(self.shape)}"
            )
        if not isinstance(self.units, str) and self.shape[-1:] != (len(self.units),):
            raise DataError(
                f"{where}: {len(self.units)} units for frames of shape {list(self.shape)}: give "
                "one, or one for each entry of the last axis"
            )

    def of(self, key: str, array: "np.ndarray | Clip") -> "FrameSchema":
        """The same, with what an array or a video [frames, *shape] settles.

        Raises DataError for names or units that are not one for each of its entries.
        """
        kind = self.kind or default_kind(key, array.shape[1:], array.dtype)
        storage = "video" if isinstance(array, Clip) else ""
        shape, dtype = array.shape[1:], array.dtype
        settled = FrameSchema(shape, dtype, kind, self.units, self.names, storage)
        settled._check_entries(f"features[{key!r}]")
        if not self.kind or self.kind == "image":
            _refuse_channels_first(key, shape, dtype)
        return settled

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, as it stands in the dataset's attributes."""
        shape, dtype = list(self.shape or ()), np.dtype(self.dtype).name
        units = self.units if isinstance(self.units, str) else list(self.units)
        said = {"kind": self.kind, "shape": shape, "dtype": dtype, "units": units}
        if self.names:
            said["names"] = list(self.names)
        if self.storage:
            said["storage"] = self.storage
        return said

    def to_options(self) -> dict[str, Any]:
        """What `from_dict` takes: only what is known."""
        said = {name: value for name, value in self.to_dict().items() if value}
        if self.shape is not None:
            said["shape"] = list(self.shape)
        if self.dtype is None:
            del said["dtype"]
        return said

    def fit(self, where: str, values: Any) -> np.ndarray:
        """Values as an array [frames, *shape] to store.

        Raises DataError, beginning with `where`, for anything else than finite numbers of this
        shape.
        """
        array = _numbers(where, values)
        array = _as_dtype(where, array, self.dtype or stored_dtype(array))
        if self.shape is not None and array.shape[1:] != self.shape:
            raise DataError(
                f"{where}: frames of shape {list(array.shape[1:])}, expected {list(self.shape)}"
            )
        finite = np.isfinite(array).reshape(len(array), -1).all(1)
        if not finite.all():
            raise DataError(
                f"{where}: frame {int(finite.argmin())} is NaN, infinite or too large for "
                f"{array.dtype}. Mend it or leave the episode out"
            )
        return array

    def fit_clip(self, where: str, clip: Clip) -> Clip:
        """The video itself; raises DataError where its pictures have another shape."""
        if self.shape is not None and clip.frame_shape != self.shape:
            raise DataError(
                f"{where}: pictures of {list(clip.frame_shape)}, expected {list(self.shape)}"
            )
        return clip


class EpisodeSchema:
    """All keys of a dataset: declared in part, settled by the first episode, demanded after."""

    def __init__(self, said: Mapping[str, Mapping[str, Any]]) -> None:
        self.frames = {
            check_key("features", key): FrameSchema.from_dict(key, entry)
            for key, entry in said.items()
        }
        self._declared = {key for key, frame in self.frames.items() if frame.dtype is not None}
        self._settled = False

    def settle(self, frames: Mapping[str, FrameSchema]) -> None:
        """Demand these of every episode from now on: what an earlier writer had settled."""
        self.frames, self._settled = dict(frames), True

    def fit(self, where: str, episode: Mapping[str, Any]) -> dict[str, np.ndarray | Clip]:
        """The episode's arrays as they will be stored, and its videos as they are.

        Raises DataError where one does not fit.
        """
        self._check_keys(where, episode)
        arrays = {key: self._fit(f"{where}, {key!r}", key, episode[key]) for key in sorted(episode)}
        lengths = {key: len(array) for key, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{where}: its arrays have different numbers of frames: {lengths}")
        if not self._settled:
            self.frames = {
                key: self.frames.get(key, FrameSchema()).of(key, array)
                for key, array in arrays.items()
            }
            self._settled = True
        return arrays

    def _fit(self, where: str, key: str, values: Any) -> "np.ndarray | Clip":
        schema = self.frames.get(key, FrameSchema())
        is_video = isinstance(values, Clip)
        if self._settled and is_video != (schema.storage == "video"):
            raise DataError(f"{where}: video in some episodes only; give all or none as video")
        if schema.dtype == np.float32 and key not in self._declared and not is_video:
            said = f"declare features={{{key!r}: {{'dtype': 'float64'}}}}"
            refuse_narrowing(where, schema, _numbers(where, values), said)
        return schema.fit_clip(where, values) if is_video else schema.fit(where, values)

    def _check_keys(self, where: str, episode: Mapping[str, Any]) -> None:
        for key in sorted({*self.frames, "action"} - set(episode)):
            raise DataError(
                f"{where} has no {key!r}: every episode has the same keys and an action"
            )
        for key in episode:
            check_key(where, key)
            if self._settled and key not in self.frames:
                hint = nearest(key, self.frames)
                raise DataError(f"{where} has a new key {key!r}{hint}: the first episode had not")


def _refuse_channels_first(key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise DataError for uint8 frames [3, height, width], of which nobody says that they are
    numbers."""
    if dtype == np.uint8 and looks_channels_first(shape):
        raise DataError(
            f"{key!r}: uint8 frames of shape {list(shape)} look like pictures with channels first: "
            "transpose them to [height, width, channels], or declare features="
            f"{{{key!r}: {{'kind': 'state'}}}} where they are numbers"
        )


def _numbers(where: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{where}: not an array of numbers ({error})") from error
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{where}: entries of type {array.dtype}. Only numbers are stored, so that reading "
            "never executes: convert them, or leave the key out"
        )
    if array.ndim < 1 or 0 in array.shape:
        raise DataError(f"{where}: shape {list(array.shape)}; [frames, ...] is needed, none empty")
    return array


def refuse_narrowing(where: str, schema: FrameSchema, values: np.ndarray, advice: str) -> None:
    """Raise DataError, beginning with `where`, where numbers [N, ...] of float64 lose their steps
    because the first ones did not need it and float32 was chosen. advice: What to do."""
    if schema.dtype == np.float32 and steps_vanish(values):
        raise DataError(
            f"{where}: float64 whose steps vanish in float32, as which it was begun: {advice}"
        )


def stored_dtype(array: np.ndarray) -> np.dtype[Any]:
    """The dtype in which numbers are stored where nobody says it.

    float64, which lists and simulators give without meaning it, becomes float32, except where it
    `loses_precision`.
    """
    if is_float64(array.dtype) and not loses_precision(array):
        return np.dtype(np.float32)
    return array.dtype.newbyteorder("=")


def _as_dtype(where: str, array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise DataError(f"{where}: {array.dtype} where {dtype} is expected; convert it first")
    with np.errstate(over="ignore"):  # becomes infinite, and is refused as such
        cast = array.astype(dtype, copy=False)
    if dtype.kind in "iu" and not np.array_equal(cast, array):
        raise DataError(f"{where}: numbers that do not fit into {dtype}; declare a wider dtype")
    return cast
