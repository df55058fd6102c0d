"""A robot on the virtual clock, a policy of known numbers, and a loop of both."""

import numpy as np

from dipole.data import WindowSpec
from dipole.deploy import (
    ActionSpec,
    Channel,
    ControlLoop,
    Limits,
    LoopConfig,
    Reading,
    Robot,
    RobotSpec,
    VirtualClock,
)
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.types import PolicySpec

WINDOW = WindowSpec(n_obs_steps=2, horizon=16, n_action_steps=8)
SPEC_OF_X = PolicySpec({"x": (2,)}, 2, WINDOW)
GENEROUS = Limits(low=(-1e4,) * 2, high=(1e4,) * 2, velocity=(1e6,) * 2, acceleration=(1e7,) * 2)


def spec(limits=GENEROUS, unit=""):
    return RobotSpec({"x": Channel((2,))}, ActionSpec(("a", "b"), unit, measured_by="x"), limits)


class VirtualRobot(Robot):
    """It is at once where it is told to be. `fault(n)` is called with each command's number."""

    def __init__(self, clock, limits=GENEROUS, fault=lambda n: None, look=lambda reading: reading):
        self.spec = spec(limits)
        self.clock, self.fault, self.look = clock, fault, look
        self.x = np.zeros(2)
        self.sent, self.calls = [], []

    def connect(self):
        self.calls.append("connect")

    def observe(self):
        return self.look(Reading(self.clock.now(), {"x": self.x.astype(np.float32)}))

    def command(self, action):
        self.fault(len(self.sent))
        self.sent.append((self.clock.now(), action.copy()))
        self.x = action

    def hold(self):
        self.calls.append("hold")

    def stop(self):
        self.calls.append("stop")

    def close(self):
        self.calls.append("close")

    @property
    def moves(self):
        """(time, command) of those that moved it: in HOLD the same setpoint is sent again."""
        before = [np.zeros(2), *(action for _, action in self.sent)]
        return [pair for pair, last in zip(self.sent, before, strict=False)
                if not np.array_equal(pair[1], last)]  # fmt: skip

    @property
    def actions(self):
        """What moved it, first entries."""
        return [round(float(action[0]), 9) for _, action in self.moves]


def counting(window=WINDOW):
    """Chunk n holds 100 n + k at index k, for k counted from the current action: 100, 101, ..."""

    def compute(ticket, observation):
        steps = np.arange(window.horizon) - (window.n_obs_steps - 1)
        return {"action": np.repeat(100.0 * ticket.chunk_id + steps[:, None], 2, axis=1)}

    return compute


def make_loop(compute=None, delay=0.0, robot=None, clock=None, window=WINDOW, **settings):
    """A loop at 10 Hz, commands at 10 Hz too unless told otherwise; returns loop, robot, log."""
    clock = clock or VirtualClock()
    robot = robot or VirtualRobot(clock)
    config = LoopConfig(
        **{"control_hz": 10.0, "max_limited": None, "max_approach": None} | settings
    )
    inference = VirtualInference(
        PolicySpec({"x": (2,)}, 2, window), compute or counting(window), clock, delay
    )
    log = []
    loop = ControlLoop(robot, inference, config, clock=clock, log=log.append)
    loop.log_lines = log
    return loop, robot


def run(loop, seconds):
    loop.prepare()
    loop.arm()
    return loop.run(seconds)
