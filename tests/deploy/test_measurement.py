"""What measures a group: the declared numbers are those that the action sets, or it is refused."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import Registry
from dipole.deploy import (
    ActionGroup,
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
from dipole.deploy.inference import PolicySpec, VirtualInference
from dipole.deploy.recording.plain import from_plain
from dipole.deploy.robots import registry
from dipole.deploy.robots.fit import unknown_angles
from dipole.deploy.safety.chunk_checks import RefusedAction, check_chunk
from dipole.deploy.safety.command_filter import OutsideLimits

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import WINDOW

JOINTS = ("shoulder", "elbow")


def arm(**options):
    given = {"name": "arm", "kind": "joint_position", "names": JOINTS, "unit": "rad",
             "measured_by": "joints"}  # fmt: skip
    return ActionGroup(**given | options)


def tool(rotation, names=("x", "y", "z", "a", "b", "c", "d"), unit="m", **options):
    return ActionGroup("tool", "pose", names, unit, "pose", rotation=rotation, **options)


def spec(channel, group):
    return RobotSpec({group.measured_by: channel}, ActionSpec.of(group))


def refused(channel, group, message):
    with pytest.raises(ConfigError, match=message):
        spec(channel, group)


# Units of a position that has none ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "group", "units"),
    [
        (Channel((2,), unit="rad"), arm(unit=""), ("rad", "rad")),
        (Channel((2,), unit="rad, m"), arm(unit=""), ("rad", "m")),
        (Channel((3,), unit="m, rad, deg"), arm(unit="", columns=(2, 1)), ("deg", "rad")),
        (Channel((7,), unit="m"), tool("quaternion_xyzw", unit=""), (*"mmm", *[""] * 4)),
        (Channel((2,)), arm(unit=""), ("", "")),
        (Channel((2,), unit="m"), arm(unit="", kind="gripper", measured_range=(0, 1)), ("", "")),
    ],
)
def test_a_position_without_a_unit_has_that_of_what_measures_it(channel, group, units):
    declared = spec(channel, group)
    assert declared.action.units == units
    assert from_plain(RobotSpec, json.loads(json.dumps(asdict(declared)))) == declared


def test_an_angle_that_wraps_is_refused_where_only_its_measurement_has_a_unit():
    reach = Limits((-3.2,) * 2, (3.2,) * 2, (1.0,) * 2, (4.0,) * 2)
    action = spec(Channel((2,), unit="rad"), arm(unit="", limits=reach)).action
    chunk = np.zeros((16, 2))
    chunk[:, 0] = -3.1
    with pytest.raises(RefusedAction, match=r"shoulder goes from 3\.1 to -3\.1 rad, about a full"):
        check_chunk({"action": chunk}, action, 1.0, np.array([3.1, 0.0]))


def test_joints_of_which_nobody_knows_a_unit_are_a_note():
    [note] = unknown_angles(spec(Channel((2,)), arm(unit="")))
    assert note.startswith("group 'arm' has no unit, so angles that wrap would not be noticed")
    assert unknown_angles(spec(Channel((2,)), arm(unit="m"))) == []


# Names --------------------------------------------------------------------------------------------


def test_names_in_the_actions_order_are_accepted():
    spec(Channel((2,), names=JOINTS), arm())
    spec(Channel((3,), names=("gripper", *JOINTS)), arm(columns=(1, 2)))
    spec(Channel((2,), names=JOINTS[::-1]), arm(columns=(1, 0)))


def test_names_in_another_order_are_refused():
    refused(
        Channel((2,), names=JOINTS[::-1]),
        arm(),
        r"'arm': 'joints' measures elbow, shoulder where the action sets shou.*columns=\(1, 0\)",
    )


def test_columns_that_pick_the_names_in_another_order_are_refused():
    refused(Channel((2,), names=JOINTS), arm(columns=(1, 0)), "measures elbow, shoulder")
    shifted = Channel((3,), names=(*JOINTS, "wrist"))
    refused(shifted, arm(columns=(1, 2)), "measures elbow, wrist where the action sets shoulder")


def test_wholly_other_names_need_columns():
    other = Channel((2,), names=("q1", "q2"))
    refused(
        other, arm(), r"measures q1, q2 where the action sets shoulder, elbow.*columns=\(0, 1\)"
    )
    spec(other, arm(columns=(0, 1)))


# Units --------------------------------------------------------------------------------------------


def test_other_units_are_refused_and_unknown_ones_accepted():
    refused(
        Channel((2,), unit="deg"),
        arm(),
        "'arm': 'joints' measures shoulder in 'deg'; the action sets it in 'rad'",
    )
    spec(Channel((2,), unit="radians"), arm())
    spec(Channel((2,)), arm())
    spec(Channel((2,), unit="deg"), arm(unit=""))


def test_units_are_compared_at_the_groups_columns():
    mixed = Channel((3,), unit="m, rad, rad")
    spec(mixed, arm(columns=(1, 2)))
    refused(mixed, arm(columns=(0, 1)), "measures shoulder in 'm'")
    rows = Channel((2, 2), unit="rad, deg")
    spec(rows, arm(columns=(0, 2)))
    refused(rows, arm(columns=(2, 3)), "measures elbow in 'deg'")


def test_a_measured_range_stands_for_other_units():
    gripper = ActionGroup("gripper", "gripper", ("opening",), "%", measured_by="width",
                          measured_range=(0.0, 0.08),
                          limits=Limits((0.0,), (100.0,), (10.0,), (10.0,)))  # fmt: skip
    spec(Channel((1,), unit="m"), gripper)


# Rotations ----------------------------------------------------------------------------------------


def test_a_rotation_written_as_the_actions_is_accepted():
    spec(Channel((7,), quaternions=(3,)), tool("quaternion_xyzw"))
    spec(Channel((7,), rotations=((3, "quaternion_wxyz"),)), tool("quaternion_wxyz"))
    spec(Channel((7,)), tool("quaternion_wxyz"))
    first = tool("quaternion_xyzw", columns=(4, 5, 6, 0, 1, 2, 3))
    spec(Channel((7,), quaternions=(0,)), first)
    rows = Channel((2, 7), quaternions=(3,))
    spec(rows, tool("quaternion_xyzw", columns=tuple(range(7, 14))))


def test_a_rotation_written_otherwise_is_refused():
    refused(
        Channel((7,), quaternions=(3,)),
        tool("quaternion_wxyz"),
        "'tool': 'pose' has a quaternion_xyzw at 3; the action's rotation is 'quaternion_wxyz'",
    )
    six = tool("rotation_6d", tuple("xyzabcdef"))
    refused(Channel((9,), rotations=((3, "rotation_6d_columns"),)), six, "rotation_6d_columns at 3")


def test_a_rotation_at_other_columns_than_the_actions_is_refused():
    refused(Channel((7,), quaternions=(0,)), tool("quaternion_xyzw"), "quaternion_xyzw at 0")
    shuffled = tool("quaternion_xyzw", columns=(0, 1, 2, 6, 3, 4, 5))
    refused(Channel((7,), quaternions=(3,)), shuffled, r"at columns \(6, 3, 4, 5\)")
    joints = arm(columns=(2, 3))
    refused(Channel((7,), quaternions=(3,)), joints, "quaternion_xyzw at 3; the action has no")


def test_a_rotation_elsewhere_in_the_channel_is_not_compared():
    spec(Channel((6,), quaternions=(2,)), arm(columns=(0, 1)))


# A gripper's range --------------------------------------------------------------------------------


def gripper(low=0.0, **options):
    given = {"limits": Limits((low,), (1.0,), (2.0,), (20.0,))} | options
    return ActionGroup("gripper", "gripper", ("opening",), measured_by="width",
                       measured_range=(0.0, 0.08), **given)  # fmt: skip


class Hand(Robot):
    """A gripper that is shut: measured at 0 m, which is the command 0."""

    def __init__(self, group, limits=None):
        self.spec = RobotSpec({"width": Channel((1,), unit="m")}, ActionSpec.of(group), limits)

    def observe(self):
        return Reading(0.0, {"width": np.float32([0.0])})

    def connect(self):
        pass

    hold = stop = close = command = connect


NARROW = {"low": 0.5, "high": 1.0, "velocity": 2.0, "acceleration": 20.0}


@pytest.fixture
def hand(monkeypatch):
    """A function that makes one with limits of a configuration."""
    made = Registry("robot")
    monkeypatch.setattr(registry, "ROBOTS", made)
    made.add("hand")(Hand)
    return lambda configured, **options: registry.make_robot("hand", options, configured)


@pytest.mark.parametrize("limits", [NARROW, {"gripper": NARROW}])
def test_narrower_limits_of_a_configuration_leave_the_sensor_as_it_is(hand, limits):
    seen = {"width": np.array([0.02])}
    spec = hand(limits, group=gripper()).spec
    assert spec.action.groups[0].limits.low == (0.5,)
    assert spec.measured(seen).tolist() == [0.25]
    own = Limits((0.0,), (1.0,), (2.0,), (20.0,))
    assert hand(limits, group=gripper(limits=None), limits=own).spec.measured(seen) == [0.25]


def test_the_first_limits_say_what_a_range_stands_for_unless_it_is_declared(hand):
    seen = {"width": np.array([0.02])}
    assert hand(NARROW, group=gripper(limits=None)).spec.measured(seen).tolist() == [0.625]
    declared = gripper(limits=None, commanded_range=((0.0,), (1.0,)))
    assert hand(NARROW, group=declared).spec.measured(seen).tolist() == [0.25]


def test_a_gripper_outside_narrower_limits_is_refused_as_any_joint_is(hand):
    robot, clock = hand({"gripper": NARROW}, group=gripper()), VirtualClock()
    policy = PolicySpec({"width": (1,)}, 1, WINDOW)
    inference = VirtualInference(policy, lambda _ticket, _seen: {"action": np.full((16, 1), 0.6)},
                                 clock)  # fmt: skip
    loop = ControlLoop(robot, inference, LoopConfig(), clock=clock, log=lambda line: None)
    with pytest.raises(OutsideLimits, match=r"opening is measured at 0, outside its limits 0\.5"):
        loop.prepare()


def test_the_commands_of_a_range_survive_a_recording():
    group = replace(gripper(), limits=Limits((0.5,), (1.0,), (2.0,), (20.0,)))
    assert from_plain(ActionGroup, json.loads(json.dumps(asdict(group)))) == group


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (((0.0,), (0.0,)), "two different finite numbers for each"),
        (((0.0, 0.0), (1.0, 1.0)), "commanded_range is"),
        (((0.0,), (float("inf"),)), "commanded_range is"),
    ],
)
def test_commands_that_a_range_cannot_stand_for_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        gripper(commanded_range=given)
    with pytest.raises(ConfigError, match="commanded_range without measured_range"):
        arm(commanded_range=((0.0, 0.0), (1.0, 1.0)))
