"""A robot whose joints the policy does not see, and a loop that moves it."""

import sys
from pathlib import Path

import numpy as np

from dipole.deploy import ActionSpec, Channel, ControlLoop, Limits, LoopConfig, Reading, RobotSpec
from dipole.deploy.inference import PolicySpec, VirtualInference

sys.path.insert(0, str(Path(__file__).parent))
from virtual_robot import WINDOW, VirtualRobot

CALM = Limits((-3.0,) * 2, (3.0,) * 2, (1.0,) * 2, (4.0,) * 2)


class MeasuredArm(VirtualRobot):
    """Two joints, and a picture that is all the policy sees; `measure(x)` is what is read."""

    def __init__(self, clock, measure=lambda x: x, seen_at=lambda now: now):
        super().__init__(clock, CALM)
        channels = {"camera": Channel((1,)), "joints": Channel((2,), unit="rad")}
        self.spec = RobotSpec(channels, ActionSpec(("a", "b"), "rad", measured_by="joints"), CALM)
        self.measure, self.seen_at = measure, seen_at
        self.x = np.array([1.5, -1.0])

    def observe(self):
        now = self.clock.now()
        values = {"camera": np.float32([0]), "joints": np.float32(self.measure(self.x))}
        return Reading(now, values, {"joints": self.seen_at(now)})


def loop_of(robot, compute=None, delay=0.0, **settings):
    stay = lambda ticket, seen: {"action": np.tile([1.5, -1.0], (16, 1))}  # noqa: E731
    policy = PolicySpec({"camera": (1,)}, 2, WINDOW)
    inference = VirtualInference(policy, compute or stay, robot.clock, delay)
    log = []
    loop = ControlLoop(robot, inference, LoopConfig(**settings), clock=robot.clock, log=log.append)
    loop.log_lines = log
    return loop


def velocities(robot):
    return np.diff([command for _, command in robot.sent], axis=0) / 0.01


def moving(ticket, seen):
    return {"action": np.linspace([1.5, -1.0], [2.5, 0.0], 16)}
