"""A recording of several groups as demonstrations: units, and numbers that turn."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from dipole.data import EpisodeStore
from dipole.deploy import (
    ActionGroup,
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
from dipole.deploy.recording.recorder import FlightRecorder
from dipole.deploy.recording.to_dataset import to_dataset
from dipole.deploy.robots.fit import check_fit
from dipole.deploy.types import Meaning

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import WINDOW, VirtualRobot, run


def exported(robot, policy, compute, seconds, folder):
    """The demonstrations of a run of a robot on the virtual clock."""
    inference = VirtualInference(policy, compute, robot.clock)
    kept = FlightRecorder(folder / "flight.rec", robot.spec, LoopConfig())
    quiet = {"clock": robot.clock, "log": lambda line: None}
    run(ControlLoop(robot, inference, LoopConfig(), recorder=kept, **quiet), seconds)
    kept.close()
    to_dataset(folder / "flight.rec", folder / "d.zarr")
    return EpisodeStore.open(folder / "d.zarr")


class ToolOnBase(VirtualRobot):
    """A tool of coordinates and a rotation vector, on a base of two velocities."""

    def __init__(self, clock):
        super().__init__(clock)
        tool = ActionGroup("tool", "pose", ("x", "y", "z", "rx", "ry", "rz"), "m", "tcp",
                           rotation="rotation_vector", limits=within(6))  # fmt: skip
        base = ActionGroup("base", "twist", ("vx", "wz"), "m/s, rad/s", limits=within(2))
        tcp = Channel((6,), unit="m, m, m, rad, rad, rad")
        self.spec, self.x = RobotSpec({"tcp": tcp}, ActionSpec.of(tool, base)), np.zeros(8)

    def observe(self):
        return Reading(self.clock.now(), {"tcp": self.x[:6].astype(np.float32)})


def within(size):
    return Limits((-1.0,) * size, (1.0,) * size, (1.0,) * size, (5.0,) * size)


def test_units_of_an_export_are_those_of_the_robot_that_it_came_from(tmp_path):
    """A policy that learns from it is not refused on the same robot."""
    robot, policy = ToolOnBase(VirtualClock(100.0)), PolicySpec({"tcp": (6,)}, 8, WINDOW)
    chunk = {"action": np.full((16, 8), 0.01)}
    store = exported(robot, policy, lambda ticket, seen, known=None: chunk, 4.0, tmp_path)
    units = {key: tuple(store.schema(key)["units"]) for key in ("tcp", "action")}
    assert units["action"] == robot.spec.action.units
    assert units["tcp"] == robot.spec.observation["tcp"].units
    trained = replace(policy, meaning={key: Meaning((), each) for key, each in units.items()})
    assert check_fit(robot.spec, trained) == []


class Turning(VirtualRobot):
    """A wheel without an end, a rotation vector and a quaternion: measured as sensors measure them.

    Its wheel's angle lies between -pi and pi, its vector is at most pi long, and its quaternion has
    w above zero.
    """

    def __init__(self, clock):
        super().__init__(clock)
        fast = {size: Limits((-3.2,) * size, (3.2,) * size, (3.0,) * size, (20.0,) * size)
                for size in (1, 3, 4)}  # fmt: skip
        groups = [
            ActionGroup("wheel", "joint_position", ("wheel",), "rad", "wheel",
                        continuous=("wheel",), limits=fast[1]),
            ActionGroup("vector", "pose", ("rx", "ry", "rz"), measured_by="vector",
                        rotation="rotation_vector", limits=fast[3]),
            ActionGroup("quaternion", "pose", ("qx", "qy", "qz", "qw"), measured_by="quaternion",
                        rotation="quaternion_xyzw", limits=fast[4]),
        ]  # fmt: skip
        channels = {"wheel": Channel((1,), unit="rad"), "vector": Channel((3,), unit="rad"),
                    "quaternion": Channel((4,))}  # fmt: skip
        self.spec = RobotSpec(channels, ActionSpec.of(*groups))
        self.x = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])

    def observe(self):
        angle, q = wrapped(self.x[0]), self.x[4:] * np.copysign(1.0, self.x[7])
        turn = wrapped(np.linalg.norm(self.x[1:4])) * axis_of(self.x[1:4])
        values = {"wheel": np.array([angle]), "vector": turn, "quaternion": q}
        return Reading(self.clock.now(), {k: v.astype(np.float32) for k, v in values.items()})

    def turn_on(self, ticket, seen, known=None):
        """All of them about one axis, 0.2 rad an action, and written as they are measured."""
        angles = wrapped(seen["wheel"][-1, 0] + 0.2 * np.arange(-1, 15))
        zeros = np.zeros(16)
        return {"action": np.stack([angles, zeros, zeros, angles, zeros, zeros,
                                    np.sin(angles / 2), np.cos(angles / 2)], axis=1)}  # fmt: skip


def wrapped(angle):
    return (angle + np.pi) % (2 * np.pi) - np.pi


def axis_of(vector):
    return vector / max(np.linalg.norm(vector), 1e-9)


def test_commands_that_count_on_past_a_turn_are_exported_beside_what_is_measured(tmp_path):
    robot = Turning(VirtualClock(100.0))
    policy = PolicySpec({"wheel": (1,), "vector": (3,), "quaternion": (4,)}, 8, WINDOW)
    store = exported(robot, policy, robot.turn_on, 10.0, tmp_path)
    assert robot.x[0] > 3 * np.pi  # it went on
    actions = store["action"][:]
    parts = {"wheel": actions[:, :1], "vector": actions[:, 1:4], "quaternion": actions[:, 4:]}
    assert len(actions) > 80
    for name, part in parts.items():
        assert np.abs(part - store[name][:]).max() < 1.0, name
