"""Draws a maze from above: walls, goal, ball, its path and the target. y points up."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dipole.envs.maze.maps import BALL_RADIUS, Floats, MazeMap

GOAL_RADIUS = 0.45  # metres: within it is success
OVERSAMPLING = 2  # drawn at so many times the size, then reduced: smooth edges
FLOOR, WALL, GOAL = (255, 255, 255), (119, 136, 153), (144, 238, 144)
BALL, TRAIL, TARGET = (65, 105, 225), (150, 175, 235), (255, 0, 0)


def picture_size(maze: MazeMap, size: int) -> tuple[int, int]:
    """Width and height in pixels of a picture whose longer side is `size`."""
    scale = size / max(maze.width, maze.height)
    return round(maze.width * scale), round(maze.height * scale)


def to_pixels(points: Floats, maze: MazeMap, width: int, height: int) -> Floats:
    """Where points [..., 2] lie in a picture of the maze: x to the right, y down, [..., 2]."""
    right = (points[..., 0] + maze.width / 2) * width / maze.width
    down = (maze.height / 2 - points[..., 1]) * height / maze.height
    pixels: Floats = np.stack([right, down], -1)
    return pixels


def draw(
    maze: MazeMap,
    goal: Floats,
    trail: Sequence[Floats],
    target: Floats | None,
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    """The scene, uint8 [height, width, 3].

    goal: [2].
    trail: The ball's positions [2], the last is where it is now.
    target: Where it is sent, [2]; None: nowhere.
    size: Width and height, pixels.
    """
    width, height = size[0] * OVERSAMPLING, size[1] * OVERSAMPLING
    canvas = _walls(maze, width, height).copy()
    pen, scale = ImageDraw.Draw(canvas), width / maze.width
    _disc(pen, to_pixels(goal, maze, width, height), GOAL_RADIUS * scale, GOAL)
    _blocks(pen, maze, width, height)
    if len(trail) > 1:
        line = to_pixels(np.array(trail), maze, width, height)
        pen.line([tuple(each) for each in line.tolist()], fill=TRAIL, width=_thickness(scale))
    _disc(pen, to_pixels(trail[-1], maze, width, height), BALL_RADIUS * scale, BALL)
    if target is not None:
        _disc(pen, to_pixels(target, maze, width, height), 0.04 * scale, TARGET)
    return np.asarray(canvas.resize(size, Image.Resampling.BOX))


@lru_cache(maxsize=8)
def _walls(maze: MazeMap, width: int, height: int) -> Image.Image:
    canvas = Image.new("RGB", (width, height), FLOOR)
    _blocks(ImageDraw.Draw(canvas), maze, width, height)
    return canvas


def _blocks(pen: ImageDraw.ImageDraw, maze: MazeMap, width: int, height: int) -> None:
    corner = np.array([-0.5, 0.5])
    first = to_pixels(maze.walls + corner, maze, width, height)
    last = to_pixels(maze.walls - corner, maze, width, height)
    for box in np.concatenate([first, last], -1).tolist():
        pen.rectangle(box, fill=WALL)


def _disc(
    pen: ImageDraw.ImageDraw, centre: Floats, radius: float, colour: tuple[int, int, int]
) -> None:
    x, y = float(centre[0]), float(centre[1])
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _thickness(scale: float) -> int:
    return max(1, round(0.04 * scale))
