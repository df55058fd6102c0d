"""A simulator whose state becomes NaN at a step that it is told, for tests (numpy alone).

Importing it registers `Diverging-v0` with gymnasium.
"""

import gymnasium
import numpy as np
from gymnasium import spaces


class PhysicsError(RuntimeError):
    """As dm_control calls its own."""


class Diverging(gymnasium.Env):
    """Two numbers that follow the action; 8 steps. Success is to have made five of them.

    at: {seed: step} of episodes that diverge; 1 is the first. how: "observation", "reward" (NaN,
        while what is observed is not looked at), "raises", or "told" by `diverged()`.
    stays: Whether it stays NaN after a reset: from then on this object is of no use.
    is_array: Whether what is observed is one array, and not a dictionary.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, at=None, how="observation", stays=False, is_array=False, render_mode=None):
        self.at, self.how, self.stays = dict(at or {}), how, stays
        self.render_mode = render_mode
        self.spoilt = False
        self.is_array = is_array
        space = spaces.Box(-9, 9, (2,), np.float64)
        self.observation_space = space if is_array else spaces.Dict({"state": space})
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed_now, self.age = seed, 0
        self.state = self.np_random.uniform(-1, 1, 2)
        if (self.stays and self.spoilt) or self.at.get(seed) == 0:
            self.state[:] = np.nan
        return self.observe(), {}

    def step(self, action):
        self.age += 1
        self.state = 0.9 * self.state + 0.1 * np.asarray(action, float)
        reward, success = float(self.state.sum()), self.age >= 5
        if self.age >= self.at.get(self.seed_now, 99):
            self.spoilt = True
            self.state[1] = np.nan
            if self.how == "raises":
                raise PhysicsError("mjWARN_BADQACC")
            reward = np.nan if self.how == "reward" else 100.0  # the best of all, and not counted
        return self.observe(), reward, False, self.age == 8, {"is_success": success}

    def observe(self):
        return self.state.copy() if self.is_array else {"state": self.state.copy()}

    def diverged(self):
        return self.how == "told" and bool(np.isnan(self.state).any())

    def render(self):
        return np.zeros((32, 32, 3), np.uint8)


class Advancing(Diverging):
    """The same, but it can step without being looked at."""

    def advance(self, action):
        return self.step(action)[1:]


gymnasium.register("Diverging-v0", Diverging)
