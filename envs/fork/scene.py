"""Fork as shapes, for the page that `dipole data view` writes."""

import numpy as np

from dipole.data.view.scene import SCENES, Body, Disc, Mark, Outline, Scene
from dipole.envs.fork.geometry import (
    DISC,
    DISC_RADIUS,
    GOAL,
    GOAL_RADIUS,
    ROBOT_RADIUS,
    WORLD_SIZE,
    Floats,
)


def _circle(centre: Floats, radius: float, corners: int = 48) -> tuple[tuple[float, float], ...]:
    angles = 2 * np.pi * np.arange(corners) / corners
    points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], -1)
    return tuple((float(x), float(y)) for x, y in points)


SCENES.add("fork")(
    Scene(
        width=WORLD_SIZE,
        height=WORLD_SIZE,
        shapes=(
            Outline(_circle(GOAL, GOAL_RADIUS), "goal"),
            Outline(_circle(DISC, DISC_RADIUS), "wall"),
            Disc(ROBOT_RADIUS, "robot", Body("state", x=0, y=1)),
            Mark(Body("action", x=0, y=1), "where the action sends the robot"),
        ),
        y_down=False,
    )
)
