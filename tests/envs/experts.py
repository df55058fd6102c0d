"""Small environments that have experts, for tests of recording."""

import contextlib
import os
import signal
import time

import gymnasium
import numpy as np
from tiny_simulator import wait_for

from dipole.data import Feature, Features
from dipole.envs.contract import EnvSpec
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.registry import ENVIRONMENTS, Environment
from dipole.envs.rollout import RolloutError

SPEC = EnvSpec("walk", observation={"place": "robot.place"})
FEATURES = Features(
    {"where": Feature((1,), source="place", columns=(0,)), "goal": Feature((3,), units="m")},
    Feature((3,), kind="action", units="m", names=("x", "y", "grip")),
    10.0,
)


class Walk(gymnasium.Env):
    """A point is moved by differences to a goal; seeds that are a multiple of `hard` never succeed,
    and the expert's third step of seed `raises` raises."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    action_space = gymnasium.spaces.Box(
        np.array([-0.2, -0.3, -1], np.float32), np.array([0.2, 0.3, 1], np.float32)
    )

    def __init__(self, observation=(), hard=None, raises=None, gain=1.0, judges=True, max_steps=30):
        self.asked, self.hard, self.raises = observation, hard, raises
        self.gain, self.judges, self.max_steps = gain, judges, max_steps
        self.looks = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed_now, self.age = seed, 0
        self.place, self.goal = self.np_random.uniform(-1, 1, (2, 3))
        return self.observe(), {}

    def advance(self, action):
        self.age += 1
        self.place = self.place + self.gain * np.clip(
            action, self.action_space.low, self.action_space.high
        )
        near = bool(np.abs(self.goal - self.place)[:2].max() < 0.05)
        success = near and not (self.hard and self.seed_now % self.hard == 0)
        info = {"is_success": success} if self.judges else {}
        return float(near), success, self.age >= self.max_steps, info

    def step(self, action):
        result = self.advance(action)
        return self.observe(), *result

    def observe(self):
        self.looks += 1
        words = "go there" if self.age < 2 else "now stay"
        every = {"robot": {"place": self.place}, "goal": self.goal, "instruction": words}
        asked = {name.partition(".")[0] for name in self.asked} or every
        return {name: value for name, value in every.items() if name in asked}

    def render(self):
        return np.full((32, 32, 3), 10 * self.age % 256, np.uint8)


class WalkExpert:
    """Goes straight to the goal."""

    def __init__(self, environment):
        self.environment = environment.unwrapped

    def reset(self, seed):
        self.seed, self.step = seed, 0

    def act(self, observation):
        self.step += 1
        if self.step == 3 and self.seed == self.environment.raises:
            raise ZeroDivisionError("no way is known")
        return np.clip(observation["goal"] - observation["robot"]["place"], -0.2, 0.2)


@contextlib.contextmanager
def walking(observation=("goal", "robot.place"), disturbance=None):
    """While it lasts, "walk" is an environment that has an expert."""
    tables = [(registry, dict(registry._table)) for registry in (ENVIRONMENTS, EXPERTS)]
    ENVIRONMENTS.add("walk")(Environment(Walk, distribution="numpy"))
    EXPERTS.add("walk")(Expert(WalkExpert, "walk", observation, disturbance))
    try:
        yield
    finally:
        for registry, table in tables:
            registry._table = table


class Twice:
    """Of a seed its double, later for small ones; it ends its process at 13."""

    def __call__(self, seed):
        time.sleep(0.02 * (5 - seed % 5))
        if seed == 13:
            os._exit(3)
        if seed == 27:
            raise RolloutError("27 is no seed")
        return 2 * seed


class AwaitingSeed:
    """The seed, once `go_on` exists; leaves a file named after the process while it waits."""

    def __init__(self, folder, go_on):
        self.folder, self.go_on = folder, go_on

    def __call__(self, seed):
        wait_for(self.go_on, self.folder)
        return seed


class Closed:
    """Says where it was closed, and whether Ctrl-C is left to the first process."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, seed):
        return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def close(self):
        (self.folder / str(os.getpid())).touch()
