"""Fetch's tasks from above as shapes, for the page that `dipole data view` writes."""

from dipole.data.view.scene import SCENES, Body, Disc, Outline, Point, Scene

WIDTH, HEIGHT = 2.0, 1.5  # of the world that is shown, metres; its origin is the simulator's
NEAR, BLOCK, GRIPPER = 0.05, 0.025, 0.015  # radii, metres
TABLES = {  # its lowest and highest x and y
    "push": (1.05, 0.40, 1.55, 1.10),
    "pick-and-place": (1.05, 0.40, 1.55, 1.10),
    "slide": (0.70, 0.30, 1.95, 1.20),
}


def _rectangle(left: float, low: float, right: float, high: float) -> tuple[Point, ...]:
    return (left, low), (right, low), (right, high), (left, high)


def _scene(task: str) -> Scene:
    goal = Disc(NEAR, "goal", Body("desired_goal", x=0, y=1))
    gripper = Disc(GRIPPER, "robot", Body("state", x=0, y=1))
    if task not in TABLES:
        return Scene(WIDTH, HEIGHT, (goal, gripper), y_down=False)
    table = Outline(_rectangle(*TABLES[task]), "wall")
    moved = Disc(BLOCK, "object", Body("state", x=3, y=4))
    return Scene(WIDTH, HEIGHT, (table, goal, moved, gripper), y_down=False)


for name in ("reach", *TABLES):
    SCENES.add(f"fetch/{name}")(_scene(name))
