"""What a policy sees and does, in terms of a dataset's keys.

A feature takes one stored array, keeps some of its columns, and may transform them, frame by frame:

    state [N, 5] --columns (0, 1)--> agent_pos [N, 2]
    state [N, 5] --transform "pusht_keypoints"--> keypoint [N, 9, 2]

So far these are the robot's numbers: those that an environment or a robot gives and takes.
`convert` makes of them, column by column and invertibly, the numbers that the network sees:

    pose [N, 7] --convert columns (3, 4, 5, 6) by quaternion_to_6d--> [N, 9]

Data, simulation and deployment use `Feature.apply` alike; what the policy does goes back through
`Feature.invert`. `represent` says that these numbers are relative to an observed pose, which needs
the observation beside them: see `dipole.data.loading.represented`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.core.registry import Registry, nearest
from dipole.data.core.units import Units, read_units
from dipole.data.loading.image_values import looks_like_images
from dipole.data.loading.recorded import as_recorded
from dipole.data.loading.represented.reference import check_references
from dipole.data.store.store import EpisodeStore
from dipole.data.transforms.conversion import Conversion, Conversions, stored_size
from dipole.data.transforms.depth import DepthRange
from dipole.data.transforms.representation import DELTA, Representation

Transform = Callable[[np.ndarray], np.ndarray]
# Frame-wise: [N, ...] -> [N, *shape]. Whoever knows what a state means registers here, e.g.
# dipole.envs.
TRANSFORMS: Registry[Transform] = Registry("transform")

KINDS = ("state", "image", "depth", "text", "action")
NORMALIZATIONS = ("limits", "quantiles", "gaussian", "identity", "image", "log")


@dataclass(frozen=True)
class Feature:
    """One entry of an observation, or the action.

    shape: Of one frame as the network sees it, after columns, transform and convert.
    kind: state, image, depth, text or action.
    source: The stored array, by default the feature's own name.
    columns: Which entries of the source's last axis, in order.
    transform: A name in TRANSFORMS.
    convert: Transforms of columns of what this gives, in COLUMN_TRANSFORMS; see docs/transforms.md.
    represent: To which observation the numbers after convert are relative; None: to none.
    normalize: limits, quantiles, gaussian or identity, by default limits; of depth with a range
        also log.
    range: Of depth: [near, far], in the unit that is stored, which become -1 and 1.
    chunks: Of the action: whether its source holds chunks [H, A] at each frame, as a teacher labels
        them; see `dipole.data.loading.chunk_actions`.
    units: Of the robot's numbers, before convert: one for all, or one for each entry of the last
        axis; "" where unknown.
    names: Of a vector's entries, before convert, in order; empty where unknown.

    Images are uint8 [height, width, channels] and stay so: what sees them normalises them
    ("image"). Text is the words of the dataset's tasks, as uint8 [longest in bytes], see
    `dipole.data.loading.text`. Everything else becomes float32. Depth is [height, width, 1] and
    normalised by its range or, without one, by the limits over all of its pixels, or not at all.
    """

    shape: tuple[int, ...]
    kind: str = "state"
    source: str = ""
    columns: tuple[int, ...] | None = None
    transform: str | None = None
    normalize: str = ""
    units: Units = ""
    names: tuple[str, ...] = ()
    convert: tuple[Conversion, ...] = ()
    represent: Representation | None = None
    range: tuple[float, float] | None = None
    chunks: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _integers("shape", self.shape))
        object.__setattr__(self, "convert", _conversions(self.convert))
        object.__setattr__(self, "represent", Representation.from_dict(self.represent))
        if not self.normalize:
            default = {"image": "image", "text": "identity"}.get(self.kind, "limits")
            object.__setattr__(self, "normalize", default)
        if self.columns is not None:
            object.__setattr__(self, "columns", _integers("columns", self.columns))
            if not self.columns or min(self.columns) < 0:
                raise ConfigError(f"columns {self.columns}: name at least one, counted from 0")
        if any(size < 1 for size in self.shape):
            raise ConfigError(f"feature shape {self.shape}: every axis has at least one entry")
        for name, value, known in (
            ("kind", self.kind, KINDS),
            ("normalize", self.normalize, NORMALIZATIONS),
        ):
            if value not in known:
                hint = nearest(str(value), known)
                raise ConfigError(
                    f"feature {name} {value!r}{hint or '.'} Known: {', '.join(known)}"
                )
        if (self.kind == "image") != (self.normalize == "image"):
            raise ConfigError(
                f"a feature of kind {self.kind!r} normalised by {self.normalize!r}: images, and "
                "only they, are 'image', which leaves it to what sees them; leave normalize out"
            )
        if self.kind == "depth":
            self._check_depth()
        elif self.range is not None or self.normalize == "log":
            raise ConfigError(f"feature of kind {self.kind!r}: range and log are for kind depth")
        if self.kind == "text":
            self._check_text()
        self._check_convert()
        self._check_represent()
        self._check_meaning()
        self._check_chunks()

    def _check_depth(self) -> None:
        if len(self.shape) != 3 or self.shape[-1] != 1:
            raise ConfigError(
                f"feature shape {list(self.shape)} of kind depth: [height, width, 1] is needed"
            )
        if self.normalize not in ("limits", "identity", "log"):
            raise ConfigError(
                f"depth normalised by {self.normalize!r}: its pixels share one range: limits, log "
                "or identity"
            )
        if self.normalize == "log" and self.range is None:
            raise ConfigError("depth normalised by log: give its range, [near, far]")
        if self.depth_range is not None:
            object.__setattr__(self, "range", (self.depth_range.near, self.depth_range.far))

    def _check_text(self) -> None:
        if len(self.shape) != 1 or self.source not in ("", "task"):
            raise ConfigError(
                f"feature of kind text, shape {list(self.shape)}, source {self.source!r}: it holds "
                "the words of tasks, so that the shape is [longest in bytes] and source is left out"
            )
        if self.columns is not None or self.transform is not None or self.normalize != "identity":
            raise ConfigError("a feature of kind text has no columns, transform or normalize")

    def _check_convert(self) -> None:
        if not self.convert:
            return
        if self.kind in ("image", "depth", "text") or not self.shape:
            raise ConfigError(
                f"convert for a feature of kind {self.kind!r} and shape {list(self.shape)}: it is "
                "for vectors of states and actions"
            )
        size = stored_size(self.convert, self.shape[-1])
        grown = self.shape[-1] - size
        if size < 1:
            raise ConfigError(
                f"feature shape {list(self.shape)}: after convert, which adds {grown} columns, "
                "there are more than that; give the shape that the network sees"
            )
        try:
            made = self.conversions.output_size
        except ConfigError as error:
            raise ConfigError(
                f"feature shape {list(self.shape)}, of {size} columns before convert: {error}"
            ) from error
        assert made == self.shape[-1]

    def _check_represent(self) -> None:
        if self.represent is None:
            return
        if self.kind not in ("state", "action") or len(self.shape) != 1:
            raise ConfigError(
                f"represent for a feature of kind {self.kind!r} and shape {list(self.shape)}: it "
                "is for vectors of states and actions"
            )
        if self.represent.columns[-1] >= self.shape[0]:
            raise ConfigError(
                f"represent: column {self.represent.columns[-1]} of a feature of shape "
                f"{list(self.shape)}: they count from 0, after convert"
            )
        if self.represent.to == DELTA and self.kind != "action":
            raise ConfigError("represent: an observation is relative; only actions are deltas")

    def _check_chunks(self) -> None:
        if type(self.chunks) is not bool:
            raise ConfigError(f"feature chunks {self.chunks!r}: true or false is needed")
        sound = self.kind == "action" and self.source not in ("", "action") and not self.transform
        if self.chunks and not sound:
            raise ConfigError(
                f"chunks for a feature of kind {self.kind!r}, source {self.source!r} and transform "
                f"{self.transform!r}: they are for an action, without a transform, whose source "
                "holds them: {source: teacher_chunk, chunks: true}"
            )

    @cached_property
    def depth_range(self) -> DepthRange | None:
        """What becomes of depth that has a range."""
        return None if self.range is None else DepthRange.of(self.range, self.normalize == "log")

    @property
    def is_converted(self) -> bool:
        """Whether the network sees other numbers than the robot's."""
        return bool(self.convert) or self.depth_range is not None

    @cached_property
    def conversions(self) -> Conversions:
        """`convert`, as one function and its inverse."""
        size = self.shape[-1] if self.shape else 1
        return Conversions(self.convert, stored_size(self.convert, size))

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Of one frame in the robot's numbers, before convert."""
        return (*self.shape[:-1], self.conversions.size) if self.convert else self.shape

    @property
    def network_units(self) -> Units:
        """Units of what the network sees, after convert."""
        return self.conversions.units(self.units) if self.convert else self.units

    @property
    def network_names(self) -> tuple[str, ...]:
        """Names of what the network sees, after convert."""
        return self.conversions.names(self.names) if self.convert else self.names

    def apply(self, frames: np.ndarray) -> np.ndarray:
        """The robot's numbers [..., *stored_shape] as the network sees them, [..., *shape].

        float32, or uint8 for images. Raises DataError for numbers that a transform cannot take.
        """
        if self.depth_range is not None:
            return self.depth_range.apply(frames)
        try:
            return np.ascontiguousarray(self.conversions.apply(frames), self.dtype)
        except ValueError as error:
            raise DataError(f"convert: {error}") from error

    def invert(self, values: np.ndarray) -> np.ndarray:
        """What the network gives, [..., *shape], in the robot's numbers [..., *stored_shape].

        What is no rotation, and so has no inverse, becomes NaN.
        """
        if self.depth_range is not None:
            return self.depth_range.invert(values)
        return np.ascontiguousarray(self.conversions.invert(values), self.dtype)

    def _check_meaning(self) -> None:
        try:
            object.__setattr__(self, "units", read_units(self.units))
        except ValueError as error:
            raise ConfigError(f"feature {error}") from error
        shape = self.stored_shape
        if not isinstance(self.units, str) and shape[-1:] != (len(self.units),):
            raise ConfigError(
                f"feature units {', '.join(self.units)}: {len(self.units)} of them for frames of "
                f"shape {list(shape)}; give one, or one for each entry of the last axis"
            )
        object.__setattr__(self, "names", _words("names", self.names))
        if self.names and (len(self.names),) != shape:
            raise ConfigError(
                f"feature names {', '.join(self.names)}: {len(self.names)} of them for frames of "
                f"shape {list(shape)}; a vector has one for each entry, other shapes none"
            )
        self.network_units  # noqa: B018  raises where a transform takes other units

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 for images and text, float32 for the rest."""
        return np.dtype(np.float32 if self.is_numeric else np.uint8)

    @property
    def is_numeric(self) -> bool:
        """Whether it has statistics and is normalised by them: all but images and text."""
        return self.kind not in ("image", "text")

    @property
    def size(self) -> int:
        """Numbers in one frame."""
        return int(np.prod(self.shape, dtype=np.int64))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Feature":
        """From plain JSON; raises ConfigError for a field that does not exist."""
        known = {f.name for f in fields(cls)}
        for name in values:
            if name not in known:
                raise ConfigError(f"feature has no field {name!r}{nearest(name, known)}")
        if "shape" not in values:
            raise ConfigError(f"feature {dict(values)} has no shape")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; units, names, convert, represent, range and chunks where there are any."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        plain["convert"] = [each.to_dict() for each in self.convert]
        plain["represent"] = None if self.represent is None else self.represent.to_dict()
        optional = ("units", "names", "convert", "represent", "range", "chunks")
        return {k: v for k, v in plain.items() if v or k not in optional}


@dataclass(frozen=True)
class Features:
    """What a policy sees, by name and in that order, and what it does.

    fps: frames per second of the demonstrations, at which observations and actions follow each
    other; None where unknown.
    """

    observation: dict[str, Feature] = field(default_factory=dict)
    action: Feature = field(default_factory=lambda: Feature((1,), kind="action"))
    fps: float | None = None

    def __post_init__(self) -> None:
        if not self.observation:
            raise ConfigError("features without an observation: name at least one")
        if "action" in self.observation:
            raise ConfigError("an observation cannot be called 'action': give it another name")
        if self.action.kind != "action":
            raise ConfigError(f"the action's kind is {self.action.kind!r}: it must be 'action'")
        if len(self.action.shape) != 1:
            raise ConfigError(f"the action's shape is {self.action.shape}: it must be one axis")
        if self.fps is not None:
            sound = type(self.fps) in (int, float) and 0 < self.fps < math.inf
            if not sound:
                raise ConfigError(f"fps is {self.fps!r}: frames per second are a positive number")
            object.__setattr__(self, "fps", float(self.fps))

    @property
    def represented(self) -> dict[str, Feature]:
        """Those of `named` that are relative to an observation."""
        return {k: one for k, one in self.named().items() if one.represent is not None}

    @classmethod
    def of(cls, store: EpisodeStore) -> "Features":
        """Every stored array as it is: `action` is the action, all others are observations.

        With names, units and frames per second, where the dataset has them.
        """

        def feature(key: str) -> Feature:
            schema = store.schema(key)
            kind = "image" if looks_like_images(store[key]) else schema["kind"]
            return Feature(tuple(schema["shape"]) or (1,), kind)

        store.require_readable()
        observation = {key: feature(key) for key in store.arrays if key != "action"}
        return as_recorded(cls(observation, feature("action")), store)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Features":
        """From plain JSON, as `to_dict` writes it."""
        try:
            observation, action = values["observation"], values["action"]
        except KeyError as error:
            raise ConfigError(
                f"features need 'observation' and 'action': {error} is absent"
            ) from error
        features = cls(
            {str(name): Feature.from_dict(entry) for name, entry in observation.items()},
            Feature.from_dict({"kind": "action", **action}),
            values.get("fps"),
        )
        check_references(features)
        return features

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        observation = {name: feature.to_dict() for name, feature in self.observation.items()}
        plain = {"observation": observation, "action": self.action.to_dict()}
        return plain if self.fps is None else {**plain, "fps": self.fps}

    def named(self) -> dict[str, Feature]:
        """Observations and "action" in one table."""
        return {**self.observation, "action": self.action}


def _conversions(values: Any) -> tuple[Conversion, ...]:
    if not isinstance(values, list | tuple):
        raise ConfigError(f"feature convert {values!r}: a list of columns and transforms is needed")
    return tuple(map(Conversion.from_dict, values))


def _words(name: str, values: Any) -> tuple[str, ...]:
    if isinstance(values, list | tuple) and all(isinstance(value, str) for value in values):
        return tuple(values)
    raise ConfigError(f"feature {name} {values!r}: a list of texts is needed")


def _integers(name: str, values: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(int(value) for value in values)
        if sizes == tuple(values):
            return sizes
    except (TypeError, ValueError):
        pass
    raise ConfigError(f"feature {name} {values!r}: whole numbers are needed")
