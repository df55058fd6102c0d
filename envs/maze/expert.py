"""An expert for PointMaze: it searches a way, and drives it as fast as corners allow."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.envs.maze.maps import Floats, MazeMap
from dipole.envs.maze.path import Motion, advance, distances, smooth_path, speeds
from dipole.envs.maze.search import find_path
from dipole.envs.wrapped import offered

ENTROPY = 7  # tells this expert's random numbers from others' of the same seed
LEAD = 0.45  # metres that the target is ahead of the ball, at most
LOST = 0.7  # metres from the way at which another one is searched
IN_TIME = 0.7  # share of an episode within which it wants to arrive


class MazeExpert:
    """Acts on "position" [2] and "goal" [2]: one target position [2] an action.

    The seed gives its speed, how it smooths corners, how it wanders, and which of several ways of
    about the same length it takes. The first target is where the ball is, the last one the goal.
    """

    def __init__(self, environment: Any) -> None:
        if offered(environment, "control") != "position":
            raise ConfigError(
                "maze's expert says positions: leave environment.options.control=force out"
            )
        maze = offered(environment, "maze")
        assert isinstance(maze, MazeMap)
        self.maze = maze
        self.seconds = float(offered(environment, "dt"))
        self.patience = float(offered(environment, "max_steps")) * self.seconds
        self.reset(seed=0)

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        random = np.random.default_rng([seed, ENTROPY])
        shape = (len(self.maze.rows), len(self.maze.rows[0]))
        self._dearer = random.uniform(1.0, 1.25, shape)
        self._width = float(random.uniform(0.12, 0.25))
        self._wander = random.normal(0.0, float(random.uniform(0.0, 0.12)), (64, 2))
        self._motion = Motion(
            speed=float(random.uniform(2.0, 3.5)), turning=float(random.uniform(5.0, 9.0))
        )
        self._way: Floats | None = None
        self._goal = np.full(2, np.nan)

    def act(self, observation: Mapping[str, Floats]) -> Floats:
        """The next target, [2]."""
        position = np.asarray(observation["position"], np.float64)
        goal = np.asarray(observation["goal"], np.float64)
        if self._way is None or not np.array_equal(goal, self._goal) or self._is_lost(position):
            self._begin(position, goal)
        else:
            self._go_on(position)
        target: Floats = self._point(self._at)
        return target

    def _begin(self, position: Floats, goal: Floats) -> None:
        """Plan from where the ball is."""
        found = find_path(self.maze, position, goal, self._dearer)
        self._goal = goal
        self._way = smooth_path(self.maze, found, self._width, self._wander)
        self._along = distances(self._way)
        needed = float(self._along[-1]) / (IN_TIME * self.patience)
        hurried = Motion(max(self._motion.speed, 1.5 * needed), turning=self._motion.turning)
        self._motion = hurried
        self._limits = speeds(self._way, hurried)
        self._at, self._speed = 0.0, 0.0

    def _go_on(self, position: Floats) -> None:
        """The target moves on along the way, unless the ball is left behind."""
        ahead, speed = advance(
            self._at, self._speed, self.seconds, self._along, self._limits, self._motion
        )
        furthest = max(self._at, self._nearest(position) + LEAD)
        self._speed = speed if ahead <= furthest else 0.5 * self._speed
        self._at = min(ahead, furthest)

    def _nearest(self, position: Floats) -> float:
        """How far along the way the ball is, metres: not further than a metre from the target."""
        assert self._way is not None
        away = np.linalg.norm(self._way - position, axis=1)
        away = np.where(np.abs(self._along - self._at) <= 1.0, away, np.inf)
        return float(self._along[int(np.argmin(away))])

    def _is_lost(self, position: Floats) -> bool:
        return bool(np.linalg.norm(self._point(self._nearest(position)) - position) > LOST)

    def _point(self, along: float) -> Floats:
        assert self._way is not None
        return np.array([np.interp(along, self._along, self._way[:, axis]) for axis in (0, 1)])
