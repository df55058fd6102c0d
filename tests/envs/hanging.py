"""An environment whose step hangs for one seed, or takes its time, with an expert of its own."""

import threading
import time
from pathlib import Path

import gymnasium
import numpy as np

from dipole.envs.experts import EXPERTS, Expert

STEPS = 16


class Hanging(gymnasium.Env):
    """Every episode has 16 steps and succeeds.

    hangs_in: The third step of this seed never ends, while there is the file `broken`.
    nap: Seconds that a step takes.
    """

    metadata = {"render_modes": [], "render_fps": 10}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, hangs_in=None, broken="", nap=0.0, render_mode=None):
        self.hangs_in, self.broken, self.nap = hangs_in, Path(broken), nap

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed_now, self.age = seed, 0
        self.place = self.np_random.uniform(-1, 1, 1)
        return self.place, {}

    def step(self, action):
        self.age += 1
        if self.age == 3 and self.seed_now == self.hangs_in and self.broken.exists():
            threading.Event().wait()
        time.sleep(self.nap)
        self.place = self.place + action
        over = self.age == STEPS
        return self.place, 0.0, over, False, {"is_success": over}


class Returning:
    """Goes back to 0."""

    def __init__(self, environment):
        pass

    def reset(self, seed):
        pass

    def act(self, observation):
        return np.clip(-observation, -1, 1)


gymnasium.register("Hanging-v0", Hanging)
EXPERTS.add("hanging")(Expert(Returning, "gym:hanging:Hanging-v0", ("state",)))
