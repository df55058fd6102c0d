"""The physics of Push-T: gym-pusht's world, to the last bit, with nothing drawn or kept beside it.

One environment step of 0.1 s takes about 0.03 ms here. The environment steps in this world, and
planners simulate candidate pushes in it.
"""

from collections.abc import Sequence

import numpy as np
import pymunk
from gym_pusht.envs.pusht import PushTEnv
from pymunk._chipmunk_cffi import lib as chipmunk

from dipole.envs.pusht.geometry import AGENT_RADIUS, Floats, Pose

SUBSTEP = 0.01
SUBSTEPS = 10
PROPORTIONAL_GAIN, DERIVATIVE_GAIN = 100.0, 20.0
WALLS = (
    ((5, 506), (5, 5)),
    ((5, 5), (506, 5)),
    ((506, 5), (506, 506)),
    ((5, 506), (506, 506)),
)
WALL_RADIUS = 2


def chase(
    space: pymunk.Space,
    agent: pymunk.Body,
    target: Sequence[float] | Floats,
    substeps: int = SUBSTEPS,
) -> None:
    """Let the agent chase a target position [2] for some sub-steps of 0.01 s; ten are one step.

    Chipmunk is called as pymunk's properties and `Space.step` call it, without what they do beside:
    that was four fifths of the time. Nothing but this spring changes the velocity of a kinematic
    body, so it is read only once.
    """
    world, body = space._space, agent._body
    x, y = float(target[0]), float(target[1])
    vx, vy = agent.velocity
    for _ in range(substeps):
        position = chipmunk.cpBodyGetPosition(body)
        vx += (PROPORTIONAL_GAIN * (x - position.x) - DERIVATIVE_GAIN * vx) * SUBSTEP
        vy += (PROPORTIONAL_GAIN * (y - position.y) - DERIVATIVE_GAIN * vy) * SUBSTEP
        chipmunk.cpBodySetVelocity(body, (vx, vy))
        chipmunk.cpSpaceStep(world, SUBSTEP)


def place(agent: pymunk.Body, block: pymunk.Body, position: Floats, pose: Pose) -> None:
    """Put agent and block exactly there, at rest.

    The angle comes first: setting it turns the block about its centre of gravity, which moves its
    origin.
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
            segments = [PushTEnv.add_segment(self.space, a, b, WALL_RADIUS) for a, b in WALLS]
            self.space.add(*segments)
        self.agent = PushTEnv.add_circle(self.space, (256, 400), AGENT_RADIUS)
        self.block, rectangles = PushTEnv.add_tee(self.space, (256, 300), 0)
        self.rectangles = [rectangle.get_vertices() for rectangle in rectangles]  # block's frame

    def start(self, random: np.random.Generator) -> None:
        """Draw a start as gym-pusht does, number for number, in a world that is fresh."""
        self.agent.position = (float(random.integers(50, 450)), float(random.integers(50, 450)))
        # Drawn before the angle turns it about its centre of gravity: as the human data was made.
        self.block.position = (float(random.integers(100, 400)), float(random.integers(100, 400)))
        self.block.angle = float(random.uniform(-np.pi, np.pi))
        self.space.step(SUBSTEP)

    def set(self, agent: Floats, velocity: Floats, pose: Pose) -> None:
        """Put the agent (position, velocity [2]) and the block (x, y, angle) exactly there."""
        place(self.agent, self.block, agent, pose)
        self.agent.velocity = float(velocity[0]), float(velocity[1])

    def step(self, target: Sequence[float] | Floats, substeps: int = SUBSTEPS) -> None:
        """Let the agent chase a target position for one environment step, or fewer sub-steps."""
        chase(self.space, self.agent, target, substeps)

    @property
    def pose(self) -> Floats:
        """Block (x, y, angle), not wrapped."""
        return np.array([*self.block.position, self.block.angle])

    @property
    def state(self) -> Floats:
        """Agent x, y, block x, y and angle in [0, 2 pi)."""
        angle = self.block.angle % (2 * np.pi)
        return np.array([*self.agent.position, *self.block.position, angle])

    @property
    def agent_position(self) -> Floats:
        return np.array(self.agent.position)

    @property
    def agent_velocity(self) -> Floats:
        """Pixels per second."""
        return np.array(self.agent.velocity)
