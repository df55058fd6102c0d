"""The mazes of PointMaze, and where walls and cells lie in the plane.

`#` is a wall, `.` is free; a cell is one metre wide, the origin is the maze's centre, y points up:
row 0 is the top. The layouts are those of gymnasium-robotics (D4RL: Fu et al., 2020).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Cell = tuple[int, int]  # row and column

BALL_RADIUS = 0.1  # metres

LAYOUTS = {
    "umaze": """
        #####
        #...#
        ###.#
        #...#
        #####
    """,
    "open": """
        #######
        #.....#
        #.....#
        #.....#
        #######
    """,
    "medium": """
        ########
        #..##..#
        #..#...#
        ##...###
        #..#...#
        #.#..#.#
        #...#..#
        ########
    """,
    "large": """
        ############
        #....#.....#
        #.##.#.#.#.#
        #......#...#
        #.####.###.#
        #..#.#.....#
        ##.#.#.#.###
        #..#...#...#
        ############
    """,
}


@dataclass(frozen=True)
class MazeMap:
    """A maze: rows of `#` and `.`, all of one length.

    >>> MazeMap.named("umaze").centre((1, 1)).tolist()
    [-1.0, 1.0]
    """

    rows: tuple[str, ...]

    @classmethod
    def named(cls, name: str) -> "MazeMap":
        """One of `LAYOUTS`."""
        return cls(tuple(LAYOUTS[name].split()))

    @property
    def width(self) -> float:
        """Metres, walls included."""
        return float(len(self.rows[0]))

    @property
    def height(self) -> float:
        """Metres, walls included."""
        return float(len(self.rows))

    @property
    def numbers(self) -> list[list[int]]:
        """As the simulator takes it: 1 for a wall, 0 for a free cell."""
        return [[int(each == "#") for each in row] for row in self.rows]

    def is_free(self, cell: Cell) -> bool:
        """Whether it is in the maze and no wall."""
        row, column = cell
        inside = 0 <= row < len(self.rows) and 0 <= column < len(self.rows[0])
        return inside and self.rows[row][column] == "."

    @cached_property
    def free_cells(self) -> list[Cell]:
        """All free cells, row by row."""
        every = ((i, j) for i in range(len(self.rows)) for j in range(len(self.rows[0])))
        return [cell for cell in every if self.is_free(cell)]

    def centre(self, cell: Cell) -> Floats:
        """The middle of a cell, x and y in metres, [2]."""
        row, column = cell
        return np.array([column + 0.5 - self.width / 2, self.height / 2 - row - 0.5])

    @cached_property
    def walls(self) -> Floats:
        """Centres of the wall cells, [W, 2]."""
        every = ((i, j) for i in range(len(self.rows)) for j in range(len(self.rows[0])))
        return np.array([self.centre(cell) for cell in every if self.rows[cell[0]][cell[1]] == "#"])

    def clearance(self, points: Floats) -> Floats:
        """Distance of each of the points [..., 2] to the nearest wall, metres, 0 inside of one."""
        away = np.abs(points[..., None, :] - self.walls) - 0.5  # [..., W, 2]
        distances: Floats = np.linalg.norm(np.maximum(away, 0), axis=-1).min(axis=-1)
        return distances
