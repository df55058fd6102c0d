"""Draws Fork: the disc, the goal, the robot and its path. y points up."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dipole.envs.fork.geometry import (
    DISC,
    DISC_RADIUS,
    GOAL,
    GOAL_RADIUS,
    ROBOT_RADIUS,
    WORLD_SIZE,
    Floats,
)

OVERSAMPLING = 2  # drawn at so many times the size, then reduced: smooth edges
WHITE, GREEN, GREY = (255, 255, 255), (144, 238, 144), (119, 136, 153)
BLUE, TRAIL, RED = (65, 105, 225), (170, 190, 235), (255, 0, 0)
CROSS = 0.02  # half the width of the mark at the target, metres


def draw(trail: Sequence[Floats], target: Floats | None, size: int) -> NDArray[np.uint8]:
    """The scene [size, size, 3]. trail: the robot's positions [2], the last is where it is now."""
    canvas = Image.new("RGB", (size * OVERSAMPLING,) * 2, WHITE)
    pen, scale = ImageDraw.Draw(canvas), size * OVERSAMPLING / WORLD_SIZE

    def pixel(point: Floats) -> tuple[float, float]:
        return float(point[0]) * scale, (WORLD_SIZE - float(point[1])) * scale

    def disc(centre: Floats, radius: float, colour: tuple[int, int, int]) -> None:
        (x, y), r = pixel(centre), radius * scale
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    disc(GOAL, GOAL_RADIUS, GREEN)
    disc(DISC, DISC_RADIUS, GREY)
    if len(trail) > 1:
        pen.line([pixel(point) for point in trail], fill=TRAIL, width=max(1, round(0.008 * scale)))
    disc(trail[-1], ROBOT_RADIUS, BLUE)
    if target is not None:
        (x, y), r, width = pixel(target), CROSS * scale, max(1, round(0.006 * scale))
        pen.line((x - r, y, x + r, y), fill=RED, width=width)
        pen.line((x, y - r, x, y + r), fill=RED, width=width)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX))
