"""A dataset at another rate: 50 frames a second to 10, or 15 to 50.

    source   0 . . . . 1 . . . . 2 . . . . 3        frames, 1 / fps of the source apart
    result   0 . . 1 . . 2 . . 3 . . 4 . . 5        frame k at k / fps

Numbers between two frames lie on the line between them: states and actions alike, for both are
where something is or shall be. Angles (units rad, deg) take the short way, quaternions and rotation
vectors the arc.
Pictures, depth, whole numbers, booleans, words of tasks, and columns that take two values only in
an episode (an open or closed gripper) are those of the nearest frame, of two as near the earlier.
Actions that are differences from one frame to the next mean another thing at another rate: convert
them to absolute ones before.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.core.units import canonical, each_unit
from dipole.data.sources.combine.picked import PickedEpisode, without_video
from dipole.data.sources.combine.wrapped import WrappedSource
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, SourceInfo
from dipole.data.store.labels import TEACHER_CHUNK
from dipole.data.store.numbers import without_seed
from dipole.data.store.schema import FrameSchema
from dipole.data.transforms.angle_columns import (
    TURNS,
    flipping_vectors,
    interpolated_vectors,
    rotation_vector_columns,
    wrapping_columns,
)
from dipole.data.transforms.quaternion_columns import quaternion_columns, unnamed_quaternions
from dipole.data.transforms.rotation_arrays import slerp


def parse_resample(word: str) -> float:
    """Frames a second, as in `--resample 10`; raises ConfigError."""
    try:
        fps = float(word)
    except (TypeError, ValueError):
        fps = math.nan
    if not 0 < fps < math.inf:
        raise ConfigError(f"resample {word!r}: frames a second are a positive number")
    return fps


def resampled(source: Source, fps: float) -> Source:
    """The source at `fps` frames a second; the same object where it is at that rate already.

    Raises DataError where the source's own rate is not known, ConfigError for a rate that is none.
    """
    parse_resample(str(fps))
    info = source.info
    if info.fps is None:
        raise DataError(
            f"{info.path}: its frames per second are not recorded, so it cannot be resampled; say "
            "them with fps"
        )
    if math.isclose(info.fps, fps, rel_tol=1e-9):
        return source
    if TEACHER_CHUNK in info.frames:
        raise DataError(
            f"{info.path}: the steps of {TEACHER_CHUNK!r} are {info.fps:g} a second and stay so: "
            f"take the other keys by --keys, or train with policy_hz={fps:g}"
        )
    return _Resampled(source, float(fps))


class _Resampled(WrappedSource):
    def __init__(self, source: Source, fps: float) -> None:
        info = source.info
        assert info.fps is not None
        self._fps, self._step = fps, info.fps / fps
        self._warnings: dict[str, None] = {}
        history = (*info.history, f"resampled to {fps:g}")
        frames = without_video(info.frames)
        super().__init__(source, replace(info, frames=frames, fps=fps, history=history))
        self._refs = [self._ref(ref) for ref in source.episodes()]
        self._originals = dict(zip([ref.id for ref in self._refs], source.episodes(), strict=True))

    @property
    def info(self) -> SourceInfo:
        """With a warning for what looked like a rotation in the episodes read so far."""
        info = super().info
        return replace(info, warnings=(*info.warnings, *self._warnings))

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        episode = self._source.open(self._originals[ref.id])
        times = _times(episode.n_frames, self._step)
        return _ResampledEpisode(episode, ref, times, self._info, self._warnings)

    def _ref(self, ref: EpisodeRef) -> EpisodeRef:
        known = None if ref.n_frames is None else len(_times(ref.n_frames, self._step))
        return replace(ref, n_frames=known, numbers=without_seed(ref.numbers))


class _ResampledEpisode(PickedEpisode):
    """times: Of each frame, counted in frames of `episode`, float64 [n].

    warnings: Gets those of what is read, as keys.
    """

    def __init__(
        self,
        episode: SourceEpisode,
        ref: EpisodeRef,
        times: np.ndarray,
        info: SourceInfo,
        warnings: dict[str, None],
    ) -> None:
        nearest = np.ceil(times - 0.5 - 1e-6).astype(np.int64).clip(0, episode.n_frames - 1)
        super().__init__(episode, ref, nearest)
        self._times, self._frames, self._warnings = times, info.frames, warnings
        self._whole: dict[str, np.ndarray] = {}

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        schema = self._frames[key]
        if _by_nearest(schema):
            return super().read(key, start, stop)
        if key not in self._whole:
            stored = self._episode.read(key, 0, self._episode.n_frames)
            self._warnings.update(dict.fromkeys(_rotation_warnings(key, schema, stored)))
            self._whole[key] = interpolated(key, schema, stored, self._times, self._numbers)
        return self._whole[key][start:stop]


def interpolated(
    key: str, schema: FrameSchema, stored: np.ndarray, times: np.ndarray, nearest: np.ndarray
) -> np.ndarray:
    """Frames [n, *shape] at `times` between stored ones [N, *shape].

    times: counted in stored frames, float64 [n]; nearest: the stored frame nearest to each.
    """
    flat = stored.reshape(len(stored), -1).astype(np.float64)
    before = np.floor(times + 1e-9).astype(np.int64).clip(0, max(len(flat) - 2, 0))
    after = np.minimum(before + 1, len(flat) - 1)
    share = (times - before).clip(0, 1)
    mixed = flat[before] + share[:, None] * _apart(flat[after] - flat[before], schema)
    switches = [column for column in range(flat.shape[1]) if len(np.unique(flat[:, column])) <= 2]
    mixed[:, switches] = flat[nearest][:, switches]
    for columns in quaternion_columns(key, schema.names, schema.shape or ()):
        at = list(columns)
        found = slerp(flat[before][:, at], flat[after][:, at], share)
        side = (found * flat[nearest][:, at]).sum(-1, keepdims=True)
        mixed[:, at] = np.where(side < 0, -found, found)
    units = _units(schema)
    for columns in rotation_vector_columns(key, schema.names, schema.shape or ()):
        at = list(columns)
        scale = TURNS["rad"] / TURNS.get(units[at[0]], TURNS["rad"])
        radians = scale * flat[:, at]
        mixed[:, at] = (
            interpolated_vectors(radians[before], radians[after], share, radians[nearest]) / scale
        )
    return np.asarray(mixed.reshape(len(times), *stored.shape[1:]), stored.dtype)


def _rotation_warnings(key: str, schema: FrameSchema, stored: np.ndarray) -> Iterator[str]:
    """What is said of numbers that look like a rotation or an angle, and go along the line."""
    if stored.ndim > 2:
        return
    numbers = stored.reshape(len(stored), -1).astype(np.float64)
    named = quaternion_columns(key, schema.names, schema.shape or ())
    named += rotation_vector_columns(key, schema.names, schema.shape or ())
    known = {column for columns in named for column in columns}
    for first, *_, last in unnamed_quaternions(numbers, named):
        known.update(range(first, last + 1))
        yield (
            f"{key!r}: columns {first} to {last} have length 1 in every frame, as a quaternion "
            "has, and each was interpolated by itself. If they are one, name them in the dataset "
            "so that they end in x, y, z, w (or w, x, y, z), or bring it in before with --convert "
            f"{key}:{first}-{last}=quaternion_to_6d"
        )
    units = _units(schema)
    for first, *_, last in flipping_vectors(numbers, known, units):
        known.update(range(first, last + 1))
        yield (
            f"{key!r}: columns {first} to {last} flip at half a turn, as a rotation vector does, "
            "and each was interpolated by itself, through rotations that never were. If they are "
            "one, name them rotvec_x, rotvec_y, rotvec_z in the dataset, or bring it in before "
            f"with --convert {key}:{first}-{last}=rotation_vector_to_6d"
        )
    for column in wrapping_columns(numbers, known, units):
        yield (
            f"{key!r}: column {column} jumps by about a full turn, as an angle does, and was "
            "interpolated through all that lies between. If it is one, give the dataset its units, "
            f"rad or deg, or bring it in before with --convert {key}:{column}=angle_to_sin_cos "
            "(Euler angles: euler_to_6d; a rotation vector: rotation_vector_to_6d)"
        )


def _apart(difference: np.ndarray, schema: FrameSchema) -> np.ndarray:
    """Differences of frames [n, numbers], those of angles the short way."""
    turn = np.array([TURNS.get(unit, 0.0) for unit in _units(schema)])
    turn = np.tile(turn, difference.shape[1] // len(turn))
    whole = np.where(turn > 0, np.round(difference / np.where(turn > 0, turn, 1.0)), 0.0)
    return np.asarray(difference - whole * turn)


def _units(schema: FrameSchema) -> tuple[str, ...]:
    """The unit of each entry of the last axis, canonical; "" where it is unknown."""
    return tuple(map(canonical, each_unit(schema.units, (schema.shape or (1,))[-1])))


def _by_nearest(schema: FrameSchema) -> bool:
    discrete = np.dtype(schema.dtype).kind != "f"
    return discrete or schema.kind in ("image", "depth")


def _times(n_frames: int, step: float) -> np.ndarray:
    """When the result's frames are, counted in frames of the source; `step` of these apart."""
    return np.arange(math.floor((n_frames - 1) / step + 1e-6) + 1) * step
