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
from dipole.data.transforms.column_group import CURRENT, POSITION, ROTATIONS, WORLD, ColumnGroup

__all__ = ["DELTA", "ColumnGroup", "Representation"]

ABSOLUTE, RELATIVE, DELTA = "absolute", "relative", "delta"


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
        for number, group in enumerate(self.groups):
            left = [number for number, column in enumerate(group.columns) if column in entries]
            if not left:
                continue
            turn = self._rotation_of(number).columns if group.frame == CURRENT else ()
            if not set(turn) <= set(entries):
                raise ConfigError(
                    f"represent: columns {list(group.columns)} are turned by columns "
                    f"{list(turn)}, which are not all there"
                )
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
        parts = []
        for group in self.groups:
            pose = observed[group.of or self.of]
            parts.append(pose[..., list(group.reference_columns(pose.shape[-1]))])
        nothing = 0 * parts[0][..., :1]
        absolute = [nothing] * (size - len(self.columns))
        return poses.doubled(self._in_order([*parts, *absolute], size))

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
        first = base[:, -1:] if self.to == RELATIVE else base
        known = represented.shape[1] if self.to == RELATIVE else base.shape[1]
        turns = {
            group: _chained(_rotation(group, first), _rotation(group, represented), known)
            for group in self.groups
            if group.is_rotation
        }
        parts = []
        for number, group in enumerate(self.groups):
            if group.is_rotation:
                after, _ = turns[group]
                parts.append(poses.six_of_rotation(after, group.by_columns))
                continue
            offsets, origin = _of(group, represented), _of(group, first)
            if group.frame == CURRENT:
                _, before = turns[self._rotation_of(number)]
                offsets = poses.turned(before, offsets)
            parts.append(_summed(origin, offsets, known))
        return self._with_absolute(parts, represented)

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
        """Vectors relative to others, frame by frame."""
        parts = []
        for number, group in enumerate(self.groups):
            if group.is_rotation:
                start, target = _rotation(group, base), _rotation(group, absolute)
                parts.append(
                    poses.six_of_rotation(poses.transposed(start) @ target, group.by_columns)
                )
                continue
            offsets = _of(group, absolute) - _of(group, base)
            if group.frame == CURRENT:
                turn = _rotation(self._rotation_of(number), base)
                offsets = poses.turned(poses.transposed(turn), offsets)
            parts.append(offsets)
        return self._with_absolute(parts, absolute)

    def _with_absolute(self, parts: Sequence[Any], values: Any) -> Any:
        """Of each group its columns, and all others as they are."""
        size = values.shape[-1]
        taken = set(self.columns)
        rest = [values[..., [column]] for column in range(size) if column not in taken]
        return self._in_order([*parts, *rest], size)

    def _in_order(self, parts: Sequence[Any], size: int) -> Any:
        """The groups' columns, and then the absolute ones, as one vector."""
        grouped = [column for group in self.groups for column in group.columns]
        order = [*grouped, *(column for column in range(size) if column not in grouped)]
        places = [order.index(column) for column in range(size)]
        return poses.concatenated(parts, -1)[..., places]

    def _rotation_of(self, number: int) -> ColumnGroup:
        """That of the position of group `number`."""
        rotation = self._rotation_after(number)
        assert rotation is not None
        return rotation

    def _rotation_after(self, number: int) -> ColumnGroup | None:
        return next((group for group in self.groups[number + 1 :] if group.is_rotation), None)


_GROUPS = "represent.groups"


def _of(group: ColumnGroup, values: Any) -> Any:
    return values[..., list(group.columns)]


def _rotation(group: ColumnGroup, values: Any) -> Any:
    return poses.rotation_of_six(_of(group, values), group.by_columns)


def _chained(first: Any, turns: Any, known: int) -> tuple[Any, Any]:
    """Rotations [B, H, 3, 3] after turns, and those before them: the first `known` frames begin at
    `first`, each later one where the last has ended."""
    after = first @ turns[:, :known]
    before = first + 0 * after
    for frame in range(known, turns.shape[1]):
        last = after[:, -1:]
        before = poses.concatenated([before, last], 1)
        after = poses.concatenated([after, last @ turns[:, frame : frame + 1]], 1)
    return after, before


def _summed(origin: Any, offsets: Any, known: int) -> Any:
    """Positions [B, H, n]: the first `known` frames begin at `origin`, each later one where the
    last has ended."""
    observed = origin + offsets[:, :known]
    return poses.concatenated([observed, observed[:, -1:] + offsets[:, known:].cumsum(1)], 1)
