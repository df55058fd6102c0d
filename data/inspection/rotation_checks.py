"""Rotations whose numbers jump while they stay, rotations that are none, angles that wrap."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from dipole.data.core.units import canonical
from dipole.data.inspection.findings import column_text, counted, times_text
from dipole.data.inspection.recording_checks import Key, Recording
from dipole.data.transforms.angle_columns import (
    NEARLY,
    TURNS,
    flipping_vectors,
    flips_of,
    rotation_vector_columns,
)
from dipole.data.transforms.quaternion_columns import quaternion_columns

UNIT_LENGTH = 0.01  # from 1, that a quaternion's length may be
FLIPPED = -0.5  # cosine between two quaternions in a row, below which the sign has changed


@dataclass
class _Place:
    """Where something was seen: how often, and the first frame."""

    count: int = 0
    first: int = -1
    value: float = 0.0

    def add(self, frames: np.ndarray, values: np.ndarray | None = None) -> None:
        """Numbers of frames in the dataset, and what was seen in each."""
        if len(frames) and self.first < 0:
            self.first = int(frames[0])
            self.value = 0.0 if values is None else float(values[0])
        self.count += len(frames)


class QuaternionCheck:
    """Signs and lengths of quaternions that names tell."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._found = {
            (key.name, columns): (_Place(), _Place())
            for key in recording.keys.values()
            for columns in quaternion_columns(key.name, key.names, key.shape)
        }

    def add(self, start: int, numbers: Mapping[str, np.ndarray]) -> None:
        for (key, columns), (flips, lengths) in self._found.items():
            q = numbers[key][:, list(columns)]
            length = np.linalg.norm(q, axis=1)
            wrong = np.flatnonzero(np.abs(length - 1) > UNIT_LENGTH)
            lengths.add(start + wrong, length[wrong])
            apart = (q[1:] * q[:-1]).sum(1) / np.maximum(length[1:] * length[:-1], 1e-12)
            flips.add(start + 1 + np.flatnonzero(apart < FLIPPED))

    def warnings(self) -> Iterator[tuple[str, str]]:
        for (key, columns), (flips, lengths) in self._found.items():
            what = f"the quaternion in columns {columns[0]} to {columns[-1]}"
            if flips.count:
                yield (
                    key,
                    f"{what} changes its sign {times_text(flips.count)}, first at "
                    f"{self._recording.frame(flips.first)}. It is the same rotation, but for a "
                    "network another number: convert it by quaternion_to_6d, or by "
                    "canonical_quaternion (docs/transforms.md)",
                )
            if lengths.count:
                yield (
                    key,
                    f"{what} has length {lengths.value:.3g} in "
                    f"{self._recording.frame(lengths.first)}, and not 1 in "
                    f"{counted(lengths.count, 'frame')}: "
                    "mend the recording; converting by quaternion_to_6d takes any length but 0",
                )


class RotationVectorCheck:
    """Axes times angles that flip at half a turn, known by names or by the flips themselves."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._keys = [key for key in recording.keys.values() if key.moves and len(key.shape) == 1]
        self._named = {key.name: _vectors(key) for key in self._keys}
        self._found: dict[tuple[str, tuple[int, ...]], _Place] = {}

    def add(self, start: int, numbers: Mapping[str, np.ndarray]) -> None:
        for key in self._keys:
            named, units = self._named[key.name], tuple(map(canonical, key.units))
            others = quaternion_columns(key.name, key.names, key.shape)
            known = {column for columns in (*named, *others) for column in columns}
            for columns in (*named, *flipping_vectors(numbers[key.name], known, units)):
                vectors = numbers[key.name][:, list(columns)]
                vectors = np.deg2rad(vectors) if units[columns[0]] == "deg" else vectors
                place = self._found.setdefault((key.name, columns), _Place())
                place.add(start + flips_of(vectors))

    def warnings(self) -> Iterator[tuple[str, str]]:
        for (key, columns), place in self._found.items():
            if not place.count:
                continue
            is_named = columns in self._named[key]
            where = f"in columns {columns[0]} to {columns[-1]}"
            yield (
                key,
                f"{'the' if is_named else 'what may be a'} rotation vector {where} flips at half a "
                f"turn {times_text(place.count)}, first at {self._recording.frame(place.first)}. "
                "It is the same rotation, but for a network other numbers: convert it by "
                "rotation_vector_to_6d (docs/transforms.md)",
            )


class MatrixCheck:
    """Rotation matrices [3, 3] whose rows are not perpendicular and of length 1."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._found = {
            key.name: _Place()
            for key in recording.keys.values()
            if key.shape == (3, 3) and "rot" in key.name.lower()
        }

    def add(self, start: int, numbers: Mapping[str, np.ndarray]) -> None:
        for key, place in self._found.items():
            m = numbers[key].reshape(-1, 3, 3)
            apart = np.abs(m @ np.swapaxes(m, 1, 2) - np.eye(3)).max((1, 2))
            wrong = np.flatnonzero((apart > UNIT_LENGTH) | (np.linalg.det(m) < 0))
            place.add(start + wrong, apart[wrong])

    def warnings(self) -> Iterator[tuple[str, str]]:
        for key, place in self._found.items():
            if place.count:
                yield (
                    key,
                    f"no rotation in {counted(place.count, 'frame')}, first in "
                    f"{self._recording.frame(place.first)}: the rows of a rotation matrix are "
                    "perpendicular and of length 1. Mend the recording, or leave the key out",
                )


@dataclass
class _Column:
    """One column that may be an angle. turn: what a full one is in its units."""

    key: Key
    column: int
    turn: float
    place: _Place = field(default_factory=_Place)


class WrapCheck:
    """Angles that jump by a full turn from one frame to the next.

    Columns in rad or deg; of unknown units those whose numbers span one turn and no more.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._columns = [
            _Column(key, column, turn)
            for key in recording.keys.values()
            if key.moves
            for column in range(len(key.units))
            for turn in _turns(key, column)
        ]

    def add(self, start: int, numbers: Mapping[str, np.ndarray]) -> None:
        for each in self._columns:
            jumps = np.abs(np.diff(numbers[each.key.name][:, each.column]))
            whole = np.flatnonzero(np.abs(jumps - each.turn) < NEARLY * each.turn)
            each.place.add(start + 1 + whole, jumps[whole])

    def warnings(self) -> Iterator[tuple[str, str]]:
        for each in self._columns:
            if each.place.count:
                where = column_text(each.column, each.key.shape, each.key.names)
                yield (
                    each.key.name,
                    f"dimension {where} jumps by {each.place.value:.4g}, about a full turn, "
                    f"{times_text(each.place.count)}, first at "
                    f"{self._recording.frame(each.place.first)}: an angle that wraps. Convert it "
                    "by angle_to_sin_cos (docs/transforms.md)",
                )


def _turns(key: Key, column: int) -> list[float]:
    """What a full turn of this column is; empty where it is no angle."""
    unit = canonical(key.units[column])
    if any(column in columns for columns in _vectors(key)):
        return []
    if unit in TURNS:
        return [TURNS[unit]]
    span = float(key.high[column] - key.low[column]) if not unit else 0.0
    return [turn for turn in TURNS.values() if (1 - NEARLY) * turn < span < 1.01 * turn]


def _vectors(key: Key) -> list[tuple[int, ...]]:
    """The columns of each rotation vector that names tell."""
    return rotation_vector_columns(key.name, key.names, key.shape)
