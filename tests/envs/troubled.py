"""A simulator with every fault, for tests of simulators in another interpreter (numpy alone)."""

import os
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces

PICTURE = (96, 128, 3)


class Troubled(gymnasium.Env):
    """Counts its steps; its fifth does what `trouble` says. Whatever it starts outlives it."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20, "modes": ["left"]}  # noqa: RUF012

    def __init__(self, trouble=None, children=False, render_mode=None, tasks=()):
        print("made by", sys.executable)
        self.trouble, self.render_mode = trouble, render_mode
        self.looks, self.tasks = 0, tasks
        self.observation_space = spaces.Dict(
            {
                "pid": spaces.Box(0, 1e9, (2,), np.float64),
                "image": spaces.Box(0, 255, PICTURE, np.uint8),
                "inner": spaces.Dict({"age": spaces.Discrete(100)}),
            }
        )
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.child = 0
        if children:
            self.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"]).pid

    @property
    def dt(self):
        return 0.05

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return self.observe(), {"options": options, "thing": object()}

    def step(self, action):
        result = self.advance(action)
        return (self.observe(), *result)

    def advance(self, action):
        self.age += 1
        if self.age == 5 and self.trouble:
            getattr(self, self.trouble)()
        info = {"is_success": np.bool_(self.age == 3), "action": np.asarray(action)}
        return np.float32(self.age), False, self.age == 8, info

    def observe(self):
        self.looks += 1
        image = np.full(PICTURE, self.age, np.uint8)
        pid = np.array([os.getpid(), self.child], float)
        return {"pid": pid, "image": image, "inner": {"age": self.age}}

    def render(self):
        return np.full((480, 640, 3), self.looks, np.uint8)  # grows the shared memory

    def hold_action(self):
        return np.zeros(2, np.float32)

    def raises(self):
        raise ZeroDivisionError("the physics exploded")

    def exits(self):
        print("out of licences", file=sys.stderr)
        os._exit(7)

    def killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def hangs(self):
        time.sleep(99)

    def hangs_with_the_lock(self):
        """Computes without ever giving another thread its turn."""
        import re

        re.fullmatch("(a+)+b", "a" * 40)

    def writes_garbage(self):
        """Into every socket that it finds open, and waits."""
        import socket

        for descriptor in range(3, 64):
            try:
                found = socket.socket(fileno=os.dup(descriptor))
                found.send(b"\x03\0\0\0abc")
            except OSError:
                continue
        time.sleep(99)


gymnasium.register("Troubled-v0", Troubled, max_episode_steps=7)
