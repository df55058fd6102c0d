"""A plugin of dipole: a transform, an environment and a robot of one's own.

[project.entry-points."dipole.plugins"]
example = "example_plugin"
"""

import gymnasium

from dipole.data import TRANSFORMS
from dipole.deploy import ActionSpec, Channel, Limits, Reading, Robot, RobotSpec
from dipole.deploy.robots.registry import ROBOTS
from dipole.envs.registry import ENVIRONMENTS, Environment


@TRANSFORMS.add("example_double")
def double(frames):
    """Each number twice as large. frames: [N, ...]."""
    return 2 * frames


class Line(gymnasium.Env):
    """A point on a line."""

    metadata = {"render_fps": 20}  # noqa: RUF012

    def __init__(self, observation=("position",)):
        self.observation = observation


ENVIRONMENTS.add("example_line")(Environment(Line, distribution="example-plugin", extra=""))


@ROBOTS.add("example_robot")
class Echo(Robot):
    """One joint that is where it was last sent."""

    spec = RobotSpec(
        observation={"joint": Channel((1,), unit="rad")},
        action=ActionSpec(("joint",), unit="rad", measured_by="joint"),
        limits=Limits(low=(-1.0,), high=(1.0,), velocity=(1.0,), acceleration=(4.0,)),
    )
    position = (0.0,)

    def connect(self):
        """Nothing to connect to."""

    hold = stop = close = connect

    def observe(self):
        return Reading(self.clock.now(), {"joint": self.position})

    def command(self, action):
        self.position = tuple(action)
