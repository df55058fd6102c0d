"""A small simulator for tests: chaotic, so that a rounding error anywhere changes the outcome."""

import os
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np


def wait_for(file, folder):
    """Until it exists; meanwhile a file named after the process is in the folder."""
    (Path(folder) / str(os.getpid())).touch()
    until = time.monotonic() + 240
    while not Path(file).exists() and time.monotonic() < until:
        time.sleep(0.02)


class TinySimulator(gymnasium.Env):
    """Two numbers that chase each other; the episode's length depends on the seed."""

    version = "tiny 1"
    metadata: ClassVar[dict[str, Any]] = {"render_fps": 5}
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(
        self,
        observation=("position",),
        *,
        raises_in=None,  # a seed: its third step raises
        dies_in=None,  # a seed: its third step ends the process
        hangs_in=None,  # a seed: its third step does not end
        forgets_success=False,
        reward=None,  # instead of its own
        nap=0.0,  # seconds a step takes
        pid_folder=None,  # where to leave a file named after the process
        size=None,  # of further zeros in each observation
    ):
        self.names, self.raises_in, self.dies_in = observation, raises_in, dies_in
        self.reward, self.size, self.hangs_in = reward, size, hangs_in
        self.forgets_success, self.nap = forgets_success, nap
        if pid_folder is not None:
            (Path(pid_folder) / str(os.getpid())).touch()
        self.steps_made = self.looks = self.renders = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed_now, self.age = seed, 0
        self.x = self.np_random.uniform(0.1, 0.9, size=2)
        self.length = 9 + 7 * (seed % 5)
        self.over = False
        return self._look(), {}

    def step(self, action):
        reward, terminated, truncated, info = self._move(action)
        return self._look(), reward, terminated, truncated, info

    def render(self):
        self.renders += 1
        frame = np.full((33, 41, 3), 255, np.uint8)  # odd sizes: h264 wants even ones
        row, column = (self.x * [32, 40]).astype(int)
        frame[row, column] = 0
        return frame

    def action_pixels(self, actions, height, width):
        return (actions + 1) / 2 * [width, height]

    def _move(self, action):
        if self.over:
            raise AssertionError("stepped after the end of the episode")
        if self.age == 2 and self.seed_now == self.raises_in:
            raise ZeroDivisionError("the physics exploded")
        if self.age == 2 and self.seed_now == self.dies_in:
            os._exit(7)
        if self.age == 2 and self.seed_now == self.hangs_in:
            time.sleep(999)
        time.sleep(self.nap)
        self.steps_made += 1
        self.age += 1
        self.x = np.mod(
            3.9 * self.x * (1 - self.x) + 0.1 * np.asarray(action, np.float64)[::-1], 1.0
        )
        success = bool(self.x[0] > 0.99)
        self.over = success or self.age == self.length
        info = {} if self.forgets_success else {"is_success": success}
        reward = float(self.x[0]) if self.reward is None else self.reward
        return reward, success, self.age == self.length, info

    def _look(self):
        self.looks += 1
        seen = {name: self.x.astype(np.float32) for name in self.names}
        return seen if self.size is None else {**seen, "zeros": np.zeros(self.size, np.float32)}


class ShySimulator(TinySimulator):
    """The same, but it can step without being looked at."""

    def advance(self, action):
        return self._move(action)

    def observe(self):
        return self._look()


class TellsOfSuccessAlone(TinySimulator):
    """Odd seeds succeed in their third step, of even ones nothing is told."""

    def _move(self, action):
        reward, _, truncated, _ = super()._move(action)
        success = self.seed_now % 2 == 1 and self.age == 3
        self.over = success or truncated
        return reward, success, truncated, {"is_success": True} if success else {}


class TenSteps(TinySimulator):
    """Of which every episode has ten steps."""

    def reset(self, *, seed=None, options=None):
        seen = super().reset(seed=seed, options=options)
        self.length = 10
        return seen

    def _move(self, action):
        reward, _, truncated, info = super()._move(action)
        self.over = truncated
        return reward, False, truncated, info


class TwoWays(TinySimulator):
    """Says which way it went: not yet in the first step, then by the second number."""

    metadata: ClassVar[dict[str, Any]] = {**TinySimulator.metadata, "modes": ["left", "right"]}

    def _move(self, action):
        reward, success, over, info = super()._move(action)
        mode = None if self.age == 1 else "right" if self.x[1] > 0.5 else "left"
        return reward, success, over, info | {"mode": mode}


class Awaiting(TinySimulator):
    """In other processes than `first` its episodes begin once the file `go_on` exists."""

    def __init__(self, observation=("position",), *, first, go_on, folder):
        super().__init__(observation)
        self.first, self.go_on, self.folder = first, go_on, folder

    def reset(self, *, seed=None, options=None):
        if os.getpid() != self.first:
            wait_for(self.go_on, self.folder)
        return super().reset(seed=seed, options=options)


TASKS = ("push", "reach", "turn")


class SeveralTasks(TinySimulator):
    """Of which the seed says the task; near is passed through, held is the last step's."""

    def reset(self, *, seed=None, options=None):
        seen, _ = super().reset(seed=seed)
        return seen, {"task": TASKS[seed % 3]}

    def _move(self, action):
        reward, _, truncated, _ = super()._move(action)
        self.over = truncated
        success = self.age in (2, 3) if self.seed_now % 3 else truncated
        named = {"touched": self.age == 1, "never": False}
        return reward, False, truncated, {"is_success": success, "successes": named}
