"""The physics of Push-T alone: a world that is cheap to copy, set and step, with nothing drawn.

One environment step of 0.1 s takes about 0.03 ms here; gym-pusht's own step spends the rest of its
0.8 ms on the coverage polygons. Planners simulate candidate pushes in this world.
"""

from collections.abc import Sequence

import numpy as np
import pymunk
from gym_pusht.envs.pusht import PushTEnv

from dipole.envs.pusht_geometry import AGENT_RADIUS, Floats, Pose

SUBSTEP = 0.01
SUBSTEPS = 10
PROPORTIONAL_GAIN, DERIVATIVE_GAIN = 100.0, 20.0


def chase(space: pymunk.Space, agent: pymunk.Body, target: Sequence[float] | Floats, substeps: int = SUBSTEPS) -> None:
    """Let the agent chase a target position [2] for some sub-steps of 0.01 s; ten are one environment step."""
    x, y = float(target[0]), float(target[1])
    for _ in range(substeps):
        (px, py), (vx, vy) = agent.position, agent.velocity
        ax = PROPORTIONAL_GAIN * (x - px) - DERIVATIVE_GAIN * vx
        ay = PROPORTIONAL_GAIN * (y - py) - DERIVATIVE_GAIN * vy
        agent.velocity = vx + ax * SUBSTEP, vy + ay * SUBSTEP
        space.step(SUBSTEP)


def place(agent: pymunk.Body, block: pymunk.Body, position: Floats, pose: Pose) -> None:
    """Put agent and block exactly there, at rest.

    The angle comes first: setting it turns the block about its centre of gravity, which moves its origin.
    """
    block.angle = float(pose[2])
    block.position = float(pose[0]), float(pose[1])
    block.velocity, block.angular_velocity = (0.0, 0.0), 0.0
    agent.position = float(position[0]), float(position[1])
    agent.velocity = 0.0, 0.0


class PushWorld:
    """Agent, block and (if asked for) walls; positions in pixels, y down, angles in radians."""

    def __init__(self, walls: bool = True) -> None:
        self.space = pymunk.Space()
        self.space.gravity = 0, 0
        self.space.damping = 0.0  # velocities do not outlive a sub-step: the block is quasi-static
        if walls:
            corners = [(5, 506), (5, 5), (506, 5), (506, 506)]
            for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
                self.space.add(PushTEnv.add_segment(self.space, start, end, 2))
        self.agent = PushTEnv.add_circle(self.space, (256, 400), AGENT_RADIUS)
        self.block, _ = PushTEnv.add_tee(self.space, (256, 300), 0)

    def set(self, agent: Floats, velocity: Floats, pose: Floats) -> None:
        """Put the agent (position, velocity [2]) and the block (x, y, angle) exactly there."""
        place(self.agent, self.block, agent, pose)
        self.agent.velocity = float(velocity[0]), float(velocity[1])

    def step(self, target: Sequence[float] | Floats, substeps: int = SUBSTEPS) -> None:
        """Let the agent chase a target position for one environment step, or fewer sub-steps."""
        chase(self.space, self.agent, target, substeps)

    @property
    def pose(self) -> Floats:
        """Block (x, y, angle)."""
        return np.array([*self.block.position, self.block.angle])

    @property
    def agent_position(self) -> Floats:
        return np.array(self.agent.position)

    @property
    def agent_velocity(self) -> Floats:
        """Pixels per second."""
        return np.array(self.agent.velocity)
