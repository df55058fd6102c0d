"""How a target position becomes forces: a PD law with feed-forward, at the simulator's rate."""

import numpy as np

from dipole.envs.maze.maps import Floats

MASS = 4.19  # kg, of the ball
LARGEST_FORCE = 100.0  # N on each axis, at a force of 1
FREQUENCY, DAMPING = 15.0, 1.0  # rad/s and ratio of the closed loop; no overshoot from any speed
LARGEST_SPEED = 5.0  # m/s on each axis, which the simulator allows


class PositionControl:
    """Tracks a reference that moves evenly from the last target to the newest one.

    simulator_steps: Of one action. seconds: Of one of these.
    """

    def __init__(self, simulator_steps: int, seconds: float) -> None:
        self.simulator_steps, self.seconds = simulator_steps, seconds
        self._from = self._to = np.zeros(2)

    def reset(self, position: Floats) -> None:
        """Stand still here, [2]."""
        self._from = self._to = position.copy()

    def follow(self, target: Floats) -> None:
        """Be at the target [2] when the action is over."""
        self._from, self._to = self._to, target

    def force(self, number: int, position: Floats, velocity: Floats) -> Floats:
        """The force [2] of the action's step `number`, from 0, in units of the largest one."""
        steps, way = self.simulator_steps, self._to - self._from
        ahead = self._from + way * (number + 1) / steps
        speed = np.clip(way / (steps * self.seconds), -LARGEST_SPEED, LARGEST_SPEED)
        acceleration = FREQUENCY**2 * (ahead - position)
        acceleration += 2 * DAMPING * FREQUENCY * (speed - velocity)
        return np.clip(MASS * acceleration / LARGEST_FORCE, -1.0, 1.0)
