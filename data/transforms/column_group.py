"""Columns that belong together: a position, or a rotation, and the pose that it is relative to."""

from dataclasses import dataclass

from dipole.data.core.errors import ConfigError

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
    reference: Columns of that observation that hold the same; by default those with the same
        numbers or, where it has as many and not those, all of them in order.
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
        is_all = size == len(self.columns) and max(self.columns) >= size
        return tuple(range(size)) if is_all else self.columns
