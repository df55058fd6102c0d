"""Push-T as shapes, for the page that `dipole data view` writes."""

from dipole.data.view.scene import SCENES, Body, Disc, Mark, Outline, Scene
from dipole.envs.pusht.geometry import AGENT_RADIUS, GOAL_POSE, OUTLINE, WORLD_SIZE, to_world

_BLOCK = tuple((float(x), float(y)) for x, y in OUTLINE)
_GOAL = tuple((float(x), float(y)) for x, y in to_world(GOAL_POSE, OUTLINE))

SCENES.add("pusht")(
    Scene(
        width=WORLD_SIZE,
        height=WORLD_SIZE,
        shapes=(
            Outline(_GOAL, "goal"),
            Outline(_BLOCK, "object", Body("state", x=2, y=3, angle=4)),
            Disc(AGENT_RADIUS, "robot", Body("state", x=0, y=1)),
            Mark(Body("action", x=0, y=1), "where the action sends the agent"),
        ),
    )
)
