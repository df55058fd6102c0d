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
from dipole.deploy.inference.base import WARM_UP
from dipole.deploy.loop.states import State, Transition
from dipole.deploy.recording.file_format import read_recording
from dipole.deploy.recording.recorder import FlightRecorder
from dipole.deploy.robots.groups import ActionGroup
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
    look=lambda reading, loop: None if 107 < reading.time < 108 else reading,
    then=lambda loop: None,
    end=FlightRecorder.close,
    **options,
):
    """A run with delays, lost readings, refused chunks and clamps, recorded.

    look: what becomes of a reading. then: what is done with the loop after the run. end: what is
    done with the recorder at the end. options: of the recorder. Returns robot, report and recorder.
    """
    clock, rng = VirtualClock(start=100.0), np.random.default_rng(1)
    robot = VirtualRobot(
        clock, LIMITS, look=lambda reading: look(reading, loop),
        fault=lambda n: clock.advance(float(rng.uniform(0, 0.012))),
    )  # fmt: skip
    config = LoopConfig(
        merger=merger, control_hz=100.0, max_limited=None, max_approach=None, call_timeout=1.0
    )
    spec = PolicySpec({"x": (2,)}, 2, WINDOW, inpaints=True)

    def latency(ticket):
        return 0.0 if ticket == WARM_UP else float(rng.uniform(0, delay))

    inference = VirtualInference(spec, wandering(0), clock, latency)
    kept = FlightRecorder(path, robot.spec, config, **options)
    loop = ControlLoop(robot, inference, config, clock=clock, log=lambda line: None, recorder=kept)
    report = run(loop, seconds)
    then(loop)
    end(kept)
    return robot, report, kept


class GroupedRobot(VirtualRobot):
    """Two joints of which one has no end, a gripper measured in metres, a base, and a tool's pose.

    It is at once where it is told to be.
    """

    def __init__(self, clock):
        super().__init__(clock)
        limits = {"velocity": (1.0,), "acceleration": (4.0,)}
        arm = ActionGroup("arm", "joint_position", ("shoulder", "wrist"), "rad", "joints",
                          continuous=("wrist",), limits=_limits(2, 3.0))  # fmt: skip
        gripper = ActionGroup("gripper", "gripper", ("opening",), "", "width",
                              measured_range=(0.0, 0.08), interpolation="step",
                              limits=Limits((0.0,), (1.0,), **limits))  # fmt: skip
        base = ActionGroup("base", "twist", ("forward",), "m/s", limits=_limits(1, 0.5))
        tool = ActionGroup("tool", "pose", ("x", "qx", "qy", "qz", "qw"), "m", "tool",
                           rotation="quaternion_xyzw", limits=_limits(5, 2.0))  # fmt: skip
        channels = {"joints": Channel((2,), unit="rad"), "width": Channel((1,), unit="m"),
                    "tool": Channel((5,), quaternions=(1,))}  # fmt: skip
        self.spec = RobotSpec(channels, ActionSpec.of(arm, gripper, base, tool))
        self.x = np.array([0.5, 3.0, 0.5, 0.0, 0.1, 0.0, 0.0, 0.0, 1.0])

    def observe(self):
        joints, width, tool = self.x[:2], 0.08 * self.x[2:3], self.x[4:]
        values = {"joints": joints, "width": width, "tool": tool}
        return Reading(self.clock.now(), {k: v.astype(np.float32) for k, v in values.items()})

    def wander(self, ticket, observation, known=None):
        rng = np.random.default_rng(ticket.chunk_id)
        return {"action": self.x + rng.normal(0, 0.1, (16, 9)).cumsum(0)}


def _limits(size, reach):
    return Limits((-reach,) * size, (reach,) * size, (1.0,) * size, (4.0,) * size)


def fly_grouped(path, seconds=6.0):
    """A run of the robot of groups, with chunks that take 0 to 0.9 s; the robot."""
    clock, rng = VirtualClock(start=100.0), np.random.default_rng(1)
    robot = GroupedRobot(clock)
    config = LoopConfig(control_hz=50.0, interpolation="cubic", max_limited=None, max_approach=None)
    policy = PolicySpec({"joints": (2,), "tool": (5,)}, 9, WINDOW)
    inference = VirtualInference(policy, robot.wander, clock, lambda t: float(rng.uniform(0, 0.9)))
    kept = FlightRecorder(path, robot.spec, config)
    loop = ControlLoop(robot, inference, config, clock=clock, log=lambda line: None, recorder=kept)
    run(loop, seconds)
    kept.close()
    return robot


class Handwritten:
    """A recording written by hand: a robot of two joints in rad, at 10 Hz, two commands an action.

    >>> kept = Handwritten(path)
    >>> kept.actions(0, 20)             # 20 actions from number 0 on; action n is [n, -n]
    >>> kept.close()
    """

    def __init__(self, path, observed=("x",), channels=None, loop=None, unit="rad", meaning=None,
                 **options):  # fmt: skip
        channels = channels or {"x": Channel((2,), unit="rad")}
        named = {"measured_by": "x"} if "x" in channels else {"kind": "joint_velocity"}
        action = ActionSpec(("left", "right"), unit=unit, **named)
        config = LoopConfig(**{"control_hz": 20.0} | (loop or {}))
        self.recorder = FlightRecorder(path, RobotSpec(channels, action, LIMITS), config, **options)
        shapes = {name: channels[name].shape for name in observed}
        policy = PolicySpec(shapes, 2, WINDOW, meaning=meaning or {})
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


def kinds(path):
    return [record.kind for record in read_recording(path)]
