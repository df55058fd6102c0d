"""What a state looks like, as shapes: packages above register scenes, the page draws them.

A scene is data, not code: the page knows how to draw an outline, and nothing of any simulator.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dipole.data.core.registry import Registry

Point = tuple[float, float]


@dataclass(frozen=True)
class Body:
    """Columns of a key that place something: x and y, and the angle in radians if it turns."""

    key: str
    x: int
    y: int
    angle: int | None = None

    @property
    def last_column(self) -> int:
        return max(self.x, self.y, self.angle or 0)


@dataclass(frozen=True)
class Outline:
    """A polygon, in the frame of its body, or of the world where it never moves.

    role: what the page's colours call it: goal, object, robot or wall.
    """

    points: tuple[Point, ...]
    role: str
    body: Body | None = None


@dataclass(frozen=True)
class Disc:
    """A disc around its body's position."""

    radius: float
    role: str
    body: Body


@dataclass(frozen=True)
class Mark:
    """A cross at a position, and the path it takes: where an action points to, say."""

    body: Body
    label: str


@dataclass(frozen=True)
class Scene:
    """A world of width × height, in the units of its columns, and what is in it, back to front."""

    width: float
    height: float
    shapes: tuple[Outline | Disc | Mark, ...]
    y_down: bool = True

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.height > 0):
            raise ValueError(f"a scene of {self.width} × {self.height}: both are above 0")

    def fits(self, columns: Mapping[str, int]) -> bool:
        """Whether a dataset with these numbers of columns holds all that the scene looks at."""
        bodies = [shape.body for shape in self.shapes if shape.body is not None]
        return all(columns.get(body.key, 0) > body.last_column for body in bodies)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; each shape with its kind: outline, disc or mark."""
        shapes = [{"kind": type(s).__name__.lower(), **asdict(s)} for s in self.shapes]
        return {**asdict(self), "shapes": shapes}


SCENES: Registry[Scene] = Registry("scene")  # by the id of the environment
