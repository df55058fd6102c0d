"""An environment of one's own, as docs/environments.md shows it: a point that reaches a goal.

Importing it registers `Reach-v0` with gymnasium; dipole knows it as "gym:reach:Reach-v0".
"""

import gymnasium
import numpy as np
from gymnasium import spaces


class Reach(gymnasium.Env):
    """A point in the plane is moved by differences; solved within `near` of the goal."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, near=0.1, render_mode=None):
        self.near, self.render_mode = near, render_mode
        place = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.observation_space = spaces.Dict(
            {"robot": spaces.Dict({"pose": place}), "desired_goal": place}
        )
        self.action_space = spaces.Box(-0.1, 0.1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        if options and "goal" in options:
            self.goal = np.array(options["goal"], float)
        return self._look(), {}

    def step(self, action):
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is no action of {self.action_space}")
        self.position = self.position + action
        away = float(np.linalg.norm(self.goal - self.position))
        success = away < self.near
        return self._look(), -away, success, False, {"task": {"success": success}}

    def render(self):
        picture = np.full((96, 96, 3), 255, np.uint8)
        for (x, y), colour in ((self.goal, (0, 160, 0)), (self.position, (0, 0, 0))):
            row, column = int(np.clip(48 - 40 * y, 4, 91)), int(np.clip(48 + 40 * x, 4, 91))
            picture[row - 4 : row + 4, column - 4 : column + 4] = colour
        return picture

    def _look(self):
        return {"robot": {"pose": self.position}, "desired_goal": self.goal.copy()}


gymnasium.register("Reach-v0", Reach, max_episode_steps=40)
