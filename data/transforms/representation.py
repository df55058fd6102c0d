"""Vectors relative to an observed pose: what a network sees instead of absolute numbers.

    relative   every vector of a window relative to the pose at its current frame (UMI, Chi et al.,
               2024): p - p_now, and R_now^T R for rotations
    delta      each action relative to the pose observed in its own frame and, where none is
               observed yet, to the action before; added up again on the way back

    frame      0       1       2         3                 To = 2 observations, current frame 1
    relative   a0-p1   a1-p1   a2-p1     a3-p1
    delta      a0-p0   a1-p1   a2-a1     a3-a2

Columns count in what the network sees (after `convert`), both of the vector and of the pose. Those
that no group names stay absolute. The same functions take numpy's arrays and PyTorch's tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.transforms import pose_arithmetic as poses

ABSOLUTE, RELATIVE, DELTA = "absolute", "relative", "delta"
POSITION, ROTATIONS = "position", ("rotation_6d", "rotation_6d_columns")
WORLD, CURRENT = "world", "current"


@dataclass(frozen=True)
class ColumnGroup:
    """Columns of a vector that belong together.

    columns: Which, from 0.
    kind: position (any numbers that are subtracted: metres, joint angles), rotation_6d (the first
        two rows of its matrix) or rotation_6d_columns.
    frame: Of a position: world, or current, along the axes of the pose that it is relative to; it
        takes 3 columns, and the rotation is that of the next group that is one.
    of: The observation that it is relative to, where it is not the representation's own.
    reference: Columns of that observation that hold the same; by default all of them where they
        are as many, else those with the same numbers.
    """

    columns: tuple[int, ...]
    kind: str = POSITION
    frame: str = WORLD
    of: str = ""
    reference: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, sound in (("columns", bool(self.columns)), ("reference", True)):
            numbers = getattr(self, name)
            counted = all(type(number) is int and number >= 0 for number in numbers)
            if not sound or not counted or len(set(numbers)) < len(numbers):
                raise ConfigError(
                    f"represent: {name} {list(numbers)}: different whole numbers from 0 are needed"
                )
        if self.kind not in (POSITION, *ROTATIONS):
            raise ConfigError(
                f"represent: kind {self.kind!r}: choose position, {' or '.join(ROTATIONS)}; other "
                "rotations are converted to 6 numbers first (convert: quaternion_to_6d)"
            )
        if self.frame not in (WORLD, CURRENT):
            raise ConfigError(f"represent: frame {self.frame!r}: choose {WORLD} or {CURRENT}")
        if self.is_rotation and (len(self.columns) != 6 or self.frame != WORLD):
            raise ConfigError(
                f"represent: {self.kind} of columns {list(self.columns)}: 6 columns, and no frame, "
                "are needed"
            )
        if self.frame == CURRENT and len(self.columns) != 3:
            raise ConfigError(
                f"represent: columns {list(self.columns)}: a position in the current frame has 3"
            )
        if self.reference and len(self.reference) != len(self.columns):
            raise ConfigError(
                f"represent: reference {list(self.reference)} for columns {list(self.columns)}: as "
                "many are needed"
            )

    @property
    def is_rotation(self) -> bool:
        return self.kind in ROTATIONS

    @property
    def by_columns(self) -> bool:
        """Whether its 6 numbers are columns of the matrix, not rows."""
        return self.kind == ROTATIONS[1]

    def reference_columns(self, size: int) -> tuple[int, ...]:
        """Of an observation with `size` columns."""
        if self.reference:
            return self.reference
        return tuple(range(size)) if size == len(self.columns) else self.columns


@dataclass(frozen=True)
class Representation:
    """What a vector is relative to, group by group.

    to: relative, or delta for actions.
    groups: At least one.
    of: The observation that groups are relative to which do not name another.
    """

    to: str
    groups: tuple[ColumnGroup, ...]
    of: str = ""

    def __post_init__(self) -> None:
        if self.to not in (RELATIVE, DELTA):
            raise ConfigError(f"represent: to {self.to!r}: choose absolute, relative or delta")
        if not self.groups:
            raise ConfigError("represent: groups is empty: name the columns that are relative")
        taken: set[int] = set()
        for number, group in enumerate(self.groups):
            if not (group.of or self.of):
                raise ConfigError(
                    f"represent: columns {list(group.columns)} are relative to nothing: give `of`, "
                    "the observation that holds the same pose"
                )
            if twice := taken & set(group.columns):
                raise ConfigError(f"represent: column {min(twice)} is in two groups")
            taken |= set(group.columns)
            if group.frame == CURRENT and self._rotation_after(number) is None:
                raise ConfigError(
                    f"represent: columns {list(group.columns)} are in the current frame, but no "
                    "group of kind rotation_6d follows that says how it is turned"
                )

    @classmethod
    def from_dict(cls, values: Any) -> "Representation | None":
        """From plain JSON; None for an absolute one. Raises ConfigError."""
        if values is None or isinstance(values, cls):
            return values
        if isinstance(values, Mapping) and values.get("to") == ABSOLUTE:
            return None
        if isinstance(values, Mapping) and isinstance(values.get("groups"), list | tuple):
            groups = [
                each if isinstance(each, ColumnGroup) else from_mapping(ColumnGroup, each, _GROUPS)
                for each in values["groups"]
            ]
            values = {**values, "groups": groups}
        return from_mapping(cls, values, "represent")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without what is left out by default."""
        groups = [
            {k: list(v) if isinstance(v, tuple) else v for k, v in vars(group).items() if v}
            for group in self.groups
        ]
        groups = [
            {k: v for k, v in group.items() if (k, v) != ("frame", WORLD)} for group in groups
        ]
        return {"to": self.to, **({"of": self.of} if self.of else {}), "groups": groups}

    @property
    def references(self) -> tuple[str, ...]:
        """The observations that it needs."""
        return tuple(dict.fromkeys(group.of or self.of for group in self.groups))

    def describe(self) -> str:
        """For a person: "relative to pose (columns 0, 1, 2 along its axes; 3, ..., 8 turned)"."""
        ways = {POSITION: "", CURRENT: " along its axes", **dict.fromkeys(ROTATIONS, " turned")}
        said = [
            ", ".join(map(str, group.columns))
            + ways[CURRENT if group.frame == CURRENT else group.kind]
            for group in self.groups
        ]
        word = "relative to" if self.to == RELATIVE else "as deltas, from"
        return f"{word} {', '.join(self.references)} (columns {'; '.join(said)})"

    @property
    def columns(self) -> tuple[int, ...]:
        """Those that are not absolute, in order."""
        return tuple(sorted(column for group in self.groups for column in group.columns))

    def for_entries(
        self, entries: Sequence[int], sizes: Mapping[str, int]
    ) -> "Representation | None":
        """Of vectors that hold only these entries, in this order, with nothing left to defaults;
        None where no group is left.

        sizes: Columns of each observation. Raises ConfigError for entries that part a group of
        numbers that belong together.
        """
        kept = []
        for group in self.groups:
            left = [number for number, column in enumerate(group.columns) if column in entries]
            if not left:
                continue
            if len(left) < len(group.columns) and (group.is_rotation or group.frame == CURRENT):
                raise ConfigError(
                    f"represent: columns {list(group.columns)} belong together, and of them only "
                    f"{[group.columns[number] for number in left]} are there"
                )
            of = group.of or self.of
            reference = group.reference_columns(sizes.get(of, 0))
            kept.append(
                replace(
                    group,
                    columns=tuple(entries.index(group.columns[number]) for number in left),
                    of=of,
                    reference=tuple(reference[number] for number in left),
                )
            )
        return replace(self, groups=tuple(kept), of="") if kept else None

    def base(self, size: int, observed: Mapping[str, Any]) -> Any:
        """What vectors of `size` columns are relative to, frame by frame: [..., size], float64; 0
        where a column is absolute.

        observed: {name: [..., n]} of the observations in `references`.
        """
        columns: list[Any] = [None] * size
        for group in self.groups:
            pose = poses.doubled(observed[group.of or self.of])
            for column, source in zip(
                group.columns, group.reference_columns(pose.shape[-1]), strict=True
            ):
                columns[column] = pose[..., source]
        nothing = 0.0 * next(column for column in columns if column is not None)
        return poses.joined([nothing if column is None else column for column in columns])

    def encode(self, values: Any, base: Any) -> Any:
        """Absolute vectors [B, N, A] -> represented ones, float64.

        base: [B, To, A], of the observed frames, of which the last is the current one.
        """
        absolute = poses.doubled(values)
        if self.to == RELATIVE:
            return self._express(absolute, base[:, -1:])
        known = base.shape[1]
        before = poses.concatenated([base, absolute[:, known - 1 : -1]], 1)
        return self._express(absolute, before)

    def decode(self, values: Any, base: Any) -> Any:
        """The inverse of `encode`, of whatever a network gives; NaN where that is no rotation."""
        represented = poses.doubled(values)
        if self.to == RELATIVE:
            return self._place(represented, base[:, -1:])
        known = base.shape[1]
        frames = [self._place(represented[:, :known], base)]
        for frame in range(known, represented.shape[1]):
            frames.append(self._place(represented[:, frame : frame + 1], frames[-1][:, -1:]))
        return poses.concatenated(frames, 1)

    def spread(self, mask: np.ndarray, known: int) -> np.ndarray:
        """How much of represented vectors is known, given that of absolute ones: [B, H, A], 0 to 1.

        known: Frames whose pose is observed. Raises ConfigError for actions that are known behind
        others that are not, where each is relative to the one before.
        """
        before = np.ones_like(mask)
        if self.to == DELTA:
            before[:, known:] = mask[:, known - 1 : -1]
        found = mask.copy()
        for number, group in enumerate(self.groups):
            own, base = list(group.columns), list(group.columns)
            if group.frame == CURRENT:
                rotation = self._rotation_after(number)
                base += [] if rotation is None else rotation.columns
            if group.frame == CURRENT or group.is_rotation:
                found[..., own] = mask[..., own].min(-1, keepdims=True)
                before[..., own] = before[..., base].min(-1, keepdims=True)
            if ((found[..., own] > 0) & (before[..., own] == 0)).any():
                raise ConfigError(
                    "actions are represented as deltas, each relative to the one before: what is "
                    "known of a chunk is known from its beginning without a gap; train with "
                    "represent.to=relative to fix others"
                )
            found[..., own] = np.minimum(found[..., own], before[..., own])
        return found

    def _express(self, absolute: Any, base: Any) -> Any:
        """Vectors relative to others."""
        columns, given, origin = poses.split(absolute), poses.split(absolute), poses.split(base)
        for number, group in enumerate(self.groups):
            if group.is_rotation:
                target, start = _rotation(group, given), _rotation(group, origin)
                made = poses.product(poses.transposed(start), target)
                numbers: Sequence[Any] = poses.six_of_rotation(made, group.by_columns)
            else:
                numbers = [given[column] - origin[column] for column in group.columns]
                if group.frame == CURRENT:
                    numbers = poses.turned(poses.transposed(self._turn(number, origin)), numbers)
            _put(columns, group, numbers)
        return poses.joined(columns)

    def _place(self, represented: Any, base: Any) -> Any:
        """The inverse of `_express`."""
        columns, given = poses.split(represented), poses.split(represented)
        origin = poses.split(base)
        for number, group in enumerate(self.groups):
            if group.is_rotation:
                made = poses.product(_rotation(group, origin), _rotation(group, given))
                numbers: Sequence[Any] = poses.six_of_rotation(made, group.by_columns)
            else:
                numbers = [given[column] for column in group.columns]
                if group.frame == CURRENT:
                    numbers = poses.turned(self._turn(number, origin), numbers)
                numbers = [
                    offset + origin[column]
                    for offset, column in zip(numbers, group.columns, strict=True)
                ]
            _put(columns, group, numbers)
        return poses.joined(columns)

    def _turn(self, number: int, origin: Sequence[Any]) -> poses.Matrix:
        """The rotation that belongs to the position of group `number`."""
        rotation = self._rotation_after(number)
        assert rotation is not None
        return _rotation(rotation, origin)

    def _rotation_after(self, number: int) -> ColumnGroup | None:
        return next((group for group in self.groups[number + 1 :] if group.is_rotation), None)


_GROUPS = "represent.groups"


def _rotation(group: ColumnGroup, numbers: Sequence[Any]) -> poses.Matrix:
    return poses.rotation_of_six([numbers[column] for column in group.columns], group.by_columns)


def _put(columns: list[Any], group: ColumnGroup, numbers: Sequence[Any]) -> None:
    for column, value in zip(group.columns, numbers, strict=True):
        columns[column] = value
