"""Recordings: of a run of the virtual robot with faults of all kinds, and written by hand."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from virtual_robot import WINDOW, VirtualRobot, run

from dipole.deploy import (
    ActionSpec,
    Channel,
    ControlLoop,
    Limits,
    LoopConfig,
    Reading,
    RobotSpec,
    VirtualClock,
)
from dipole.deploy.inference import PolicySpec, VirtualInference
from dipole.deploy.loop.states import State, Transition
from dipole.deploy.recording.recorder import FlightRecorder
from dipole.deploy.safety.command_filter import Command
from dipole.deploy.types import Decision

FORMAT_1 = Path(__file__).parents[1] / "recordings" / "format_1.rec"
LIMITS = Limits((-50.0,) * 2, (50.0,) * 2, (30.0,) * 2, (200.0,) * 2)


def wandering(seed):
    rng = np.random.default_rng(seed)

    def compute(ticket, observation, known=None):
        if ticket.chunk_id % 7 == 0:
            return {"action": np.full((16, 2), np.nan)}
        return {"action": rng.normal(0, 3, (16, 2)).cumsum(0).astype(np.float32)}

    return compute


def fly(
    path,
    seconds=20.0,
    merger="cross_fade",
    delay=0.9,
    then=lambda loop: None,
    end=FlightRecorder.close,
    **options,
):
    """A run with delays, lost readings, refused chunks and clamps, recorded.

    then: what is done with the loop after the run; end: with the recorder at the end; options: of
    the recorder. Returns robot, report and recorder.
    """
    clock, rng = VirtualClock(start=100.0), np.random.default_rng(1)
    robot = VirtualRobot(
        clock, LIMITS, look=lambda r: None if 107 < clock.now() < 108 else r,
        fault=lambda n: clock.advance(float(rng.uniform(0, 0.012))),
    )  # fmt: skip
    config = LoopConfig(
        merger=merger, control_hz=100.0, max_limited=None, max_approach=None, call_timeout=1.0
    )
    spec = PolicySpec({"x": (2,)}, 2, WINDOW, inpaints=True)
    inference = VirtualInference(
        spec, wandering(0), clock, lambda ticket: float(rng.uniform(0, delay))
    )
    kept = FlightRecorder(path, robot.spec, config, **options)
    loop = ControlLoop(robot, inference, config, clock=clock, log=lambda line: None, recorder=kept)
    report = run(loop, seconds)
    then(loop)
    end(kept)
    return robot, report, kept


class Handwritten:
    """A recording written by hand: a robot of two joints in rad, at 10 Hz, two commands an action.

    >>> kept = Handwritten(path)
    >>> kept.actions(0, 20)             # 20 actions from number 0 on; action n is [n, -n]
    >>> kept.close()
    """

    def __init__(self, path, observed=("x",), channels=None, loop=None, **options):
        channels = channels or {"x": Channel((2,), unit="rad")}
        named = {"measured_by": "x"} if "x" in channels else {"kind": "joint_velocity"}
        action = ActionSpec(("left", "right"), unit="rad", **named)
        config = LoopConfig(**{"control_hz": 20.0} | (loop or {}))
        self.recorder = FlightRecorder(path, RobotSpec(channels, action, LIMITS), config, **options)
        policy = PolicySpec({name: channels[name].shape for name in observed}, 2, WINDOW)
        self.recorder.listen(VirtualInference(policy, wandering(0), VirtualClock()))

    def actions(self, first, stop):
        for number in range(first, stop):
            self.act(number)
            self.commands(number)

    def act(self, number, values=None, times=None, hold=""):
        """The look at time number / 10, and what was decided; values {}: nothing was read."""
        now = number / 10
        values = {"x": np.float32([number, 0])} if values is None else values
        reading = Reading(now, values, times or {}) if values else None
        action = None if hold else np.array([number, -number], np.float64)
        self.recorder.act(now, reading, Decision(action=action, hold=hold))

    def commands(self, number, count=2):
        """What was sent for an action: half of the way, and all of it."""
        for slot in range(count):
            command = np.array([number, -number]) - 0.5 * (1 - slot)
            self.recorder.command(number / 10 + slot / 20, Command(command, ("velocity",), 0.2), 0)

    def state(self, number, state, reason=""):
        self.recorder.state(Transition(number / 10, State(state), reason))

    def close(self):
        return self.recorder.close()
