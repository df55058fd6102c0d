"""A robot that is not where it was told to be: seen, reported, and beyond a setting the end."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data.core.errors import ConfigError
from dipole.deploy import (
    ActionGroup,
    ActionSpec,
    Channel,
    ControlLoop,
    DryRun,
    Limits,
    LoopConfig,
    RobotSpec,
    State,
    VirtualClock,
)
from dipole.deploy.inference import PolicySpec, VirtualInference
from dipole.deploy.recording.recorder import FlightRecorder
from dipole.deploy.recording.replay import replay
from dipole.deploy.robots import registry
from dipole.deploy.safety.deviation import DeviationCheck

sys.path.insert(0, str(Path(__file__).parent / "support"))
from measured_arm import MeasuredArm, loop_of, moving, velocities
from virtual_robot import WINDOW, VirtualRobot, run

BOX = {"low": (-3.0,) * 2, "high": (3.0,) * 2, "velocity": (1.0,) * 2, "acceleration": (4.0,) * 2}


def arm_of(clock, most, measure):
    """Two joints a and b that go where they are told, and are read as `measure` says."""
    robot = MeasuredArm(clock, measure)
    limits = Limits(**BOX, max_deviation=most)
    action = ActionSpec(("a", "b"), "rad", measured_by="joints")
    robot.spec = RobotSpec(robot.spec.observation, action, limits)
    return robot


# Runs ---------------------------------------------------------------------------------------------


def test_an_arm_that_stands_still_ends_the_run_with_its_joint_and_both_numbers():
    clock = VirtualClock()
    robot = arm_of(clock, (0.3, 0.3), lambda x: np.array([1.5, -1.0]))  # a protective stop
    report = run(loop_of(robot, moving), 60.0)
    assert report.transitions[-1].state is State.FAULT
    reason = report.transitions[-1].reason
    assert reason.startswith("a is measured at 1.5 rad and was last commanded to 1.8")
    assert "further than limits.max_deviation = 0.3 rad allows" in reason
    assert report.stopped is True
    assert robot.calls[-1] == "stop"


def test_its_setpoint_is_brought_to_rest_within_the_limits():
    robot = arm_of(VirtualClock(), (0.3, 0.3), lambda x: np.array([1.5, -1.0]))
    run(loop_of(robot, moving), 60.0)
    velocity = velocities(robot)
    assert np.abs(velocity).max() > 0.3
    assert not velocity[-1].any()
    assert np.abs(np.diff(velocity, axis=0)).max() <= 4.0 * 0.01 * (1 + 1e-6)


def test_without_the_setting_it_is_only_reported():
    robot = arm_of(VirtualClock(), None, lambda x: np.array([1.5, -1.0]))
    report = run(loop_of(robot, moving), 2.0)
    assert report.transitions[-1].reason == "the time is up"
    plain = report.to_dict()["deviation"]
    assert plain["unit"] == "rad"
    assert plain["max"] == pytest.approx(np.abs(robot.sent[-1][1] - [1.5, -1.0]).max(), abs=0.1)
    assert any(
        line.startswith("deviation ") and line.endswith(" rad") for line in str(report).split("\n")
    )


@pytest.mark.parametrize("held", [False, True])
def test_an_arm_that_falls_while_it_is_told_to_stay_ends_the_run(held):
    clock = VirtualClock()
    robot = arm_of(clock, (0.2, 0.2), lambda x: x - (clock.now() > 1.0) * np.array([0.0, 0.5]))
    late = {"delay": math.inf, "warmup_calls": 0} if held else {}
    report = run(loop_of(robot, **late), 20.0)
    assert report.transitions[-1].state is State.FAULT
    assert report.transitions[-1].reason.startswith("b is measured at -1.5 rad")
    assert report.seconds < 1.2


@settings(deadline=None, max_examples=100)
@given(
    st.tuples(*[st.floats(0.001, 2.0)] * 2),
    st.tuples(*[st.floats(0.0, 0.99) | st.floats(1.01, 50.0)] * 2),
    st.tuples(*[st.sampled_from([-1.0, 1.0])] * 2),
    st.floats(0.2, 1.5),
    st.sampled_from(["moves", "stays", "holds"]),
)
def test_a_deviation_beyond_the_limit_always_ends_the_run_and_one_below_never(
    most, shares, signs, begins, doing
):
    clock = VirtualClock()
    offset = np.multiply(np.multiply(most, shares), signs)
    robot = arm_of(clock, most, lambda x: x + offset * (clock.now() > begins))
    late = {"delay": math.inf, "warmup_calls": 0} if doing == "holds" else {}
    loop = loop_of(robot, moving if doing == "moves" else None, control_hz=20.0, **late)
    report = run(loop, 2.0)
    if max(shares) > 1.0:
        assert report.transitions[-1].state is State.FAULT
        named = {name for name, share in zip("ab", shares, strict=True) if share > 1.0}
        assert report.transitions[-1].reason.split(" is measured at")[0] in named
        assert begins < report.seconds + 1e-9 < begins + 0.1 + 0.4  # an action, and the ramp
    else:
        assert report.transitions[-1].reason == "the time is up"
    assert report.samples["deviation"].maximum == pytest.approx(
        np.abs(offset).max(), rel=1e-3, abs=1e-6
    )


def test_such_a_run_is_made_again_from_its_recording(tmp_path):
    clock = VirtualClock()
    robot = arm_of(clock, (0.3, 0.3), lambda x: np.array([1.5, -1.0]))
    config = LoopConfig()
    kept = FlightRecorder(tmp_path / "flight.rec", robot.spec, config)
    inference = VirtualInference(PolicySpec({"camera": (1,)}, 2, WINDOW), moving, clock)
    loop = ControlLoop(robot, inference, config, clock=clock, log=lambda _: None, recorder=kept)
    assert "max_deviation" in run(loop, 5.0).transitions[-1].reason
    kept.close()
    found = list(replay(tmp_path / "flight.rec"))
    assert all(one.same for one in found)
    assert sum(one.then.kind == "command" for one in found) == len(robot.sent) > 30


def test_a_dry_run_goes_on_although_nothing_follows():
    robot = arm_of(VirtualClock(), (0.1, 0.1), lambda x: x)
    dry = DryRun(robot, show=lambda line: None)
    dry.clock = robot.clock
    report = run(loop_of(dry, moving), 3.0)
    assert report.transitions[-1].reason == "the time is up"
    assert report.samples["deviation"].maximum > 0.1


# Of a group ---------------------------------------------------------------------------------------


def limits(n, most, speed=1.0):
    return Limits((-9.0,) * n, (9.0,) * n, (speed,) * n, (4.0,) * n, max_deviation=most)


def check(*groups):
    return DeviationCheck(ActionSpec.of(*groups))


def test_angles_without_an_end_are_compared_the_short_way():
    wheel = ActionGroup("wheel", "joint_position", ("turn",), "deg", measured_by="x",
                        continuous=("turn",), limits=limits(1, (5.0,)))  # fmt: skip
    near, far = (check(wheel).compare(np.array([at]), np.array([719.0])) for at in (2.0, 8.0))
    assert near.largest == {"": (pytest.approx(3.0), "deg")}
    assert near.problem == ""
    assert far.problem.startswith("turn is measured at 8 deg and was last commanded to 719 deg, 9 ")


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rotations_are_compared_by_their_angle(sign):
    most = (0.1, 0.2, 0.3, 9.0, 9.0, 9.0, 0.5)  # of the rotation's numbers the least counts
    tool = ActionGroup("tool", "pose", ("x", "y", "z", "qx", "qy", "qz", "qw"), "m",
                       measured_by="tool", rotation="quaternion_xyzw",
                       limits=limits(7, most))  # fmt: skip
    turned = lambda angle: np.array(  # noqa: E731
        [0, 0, 0.25, *(sign * np.array([0, 0, math.sin(angle / 2), math.cos(angle / 2)]))]
    )
    still = np.array([0.0, 0, 0, 0, 0, 0, 1])
    found = check(tool).compare(turned(0.49), still)
    assert found.largest == {"_m": (0.25, "m"), "_rad": (pytest.approx(0.49), "rad")}
    assert found.problem == ""
    assert "the rotation of tool is 0.51 rad from the last command" in (
        check(tool).compare(turned(0.51), still).problem
    )


def test_only_positions_are_compared_and_each_group_by_itself():
    arm = ActionGroup("arm", "joint_position", ("j",), "rad", measured_by="x",
                      limits=limits(1, None))  # fmt: skip
    grip = ActionGroup("grip", "gripper", ("g",), "%", measured_by="x", limits=limits(1, (2.0,)))
    base = ActionGroup("base", "twist", ("vx",), "m/s", measured_by="v", limits=limits(1, None))
    valve = ActionGroup("valve", "discrete", ("v",), values=(0.0, 1.0), rest=0.0)
    found = check(arm, grip, base, valve).compare(np.array([1, 1, 5, 0.0]), np.array([4, 4, 0, 1]))
    assert found.largest == {"_arm": (3.0, "rad"), "_grip": (3.0, "%")}
    assert found.problem.startswith("g is measured at 1 % and was last commanded to 4 %, 3 % away")


def test_what_is_no_number_is_no_small_deviation():
    arm = ActionGroup("arm", "joint_position", ("j",), "rad", measured_by="x",
                      limits=limits(1, (1.0,)))  # fmt: skip
    assert check(arm).compare(np.array([math.nan]), np.zeros(1)).problem


# The setting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_deviation_that_is_not_positive_is_refused(value):
    with pytest.raises(ConfigError, match=r"limits\.max_deviation\[1\] is .*must be positive"):
        Limits(**BOX, max_deviation=(0.1, value))


def test_one_number_may_be_left_out():
    clock = VirtualClock()
    away = np.array([2.0, 0.0])
    robot = arm_of(clock, (math.inf, 0.3), lambda x: x + away * (clock.now() > 0.5))
    assert run(loop_of(robot), 1.0).transitions[-1].reason == "the time is up"
    with pytest.raises(ConfigError, match=r"max_deviation has 1 values, limits\.low has 2"):
        Limits(**BOX, max_deviation=(0.1,))


def test_a_velocity_has_none():
    with pytest.raises(ConfigError, match=r"'base': limits\.max_deviation of vx is 1: .*give inf"):
        ActionGroup("base", "twist", ("vx",), limits=limits(1, (1.0,)))
    assert ActionGroup("base", "twist", ("vx",), limits=limits(1, (math.inf,))).is_velocity


class Arm(VirtualRobot):
    def __init__(self, most=None):
        super().__init__(VirtualClock())
        action = ActionSpec(("a", "b"), "rad", measured_by="x")
        self.spec = RobotSpec({"x": Channel((2,))}, action, Limits(**BOX, max_deviation=most))


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize(
    ("own", "configured", "expected"),
    [
        (None, {"max_deviation": 0.3}, (0.3, 0.3)),
        ((0.1, 0.2), {"max_deviation": [0.3, 0.4]}, (0.3, 0.4)),
        ((0.1, 0.2), {}, (0.1, 0.2)),  # other limits do not switch it off
        ((0.1, 0.2), {"max_deviation": None}, (0.1, 0.2)),
        (None, {}, None),
    ],
)
def test_a_configuration_sets_it_with_the_other_limits(
    monkeypatch, group, own, configured, expected
):
    monkeypatch.setattr(registry, "ROBOTS", {"arm": Arm})
    given = {"low": -1, "high": 1, "velocity": 1, "acceleration": 1} | configured
    robot = registry.make_robot("arm", {"most": own}, {"action": given} if group else given)
    found = robot.spec.action.groups[0].limits
    assert (found.low, found.max_deviation) == ((-1.0, -1.0), expected)


@pytest.mark.parametrize("group", [True, False])
@pytest.mark.parametrize(
    ("configured", "changed"),
    [
        ({"max_deviation": 0.3}, {"max_deviation": (0.3, 0.3)}),
        ({"velocity": [0.1, 0.2]}, {"velocity": (0.1, 0.2)}),
        ({"low": 0.0, "high": None}, {"low": (0.0, 0.0)}),
    ],
)
def test_a_configuration_replaces_what_it_names_and_leaves_the_class_s_other_limits(
    monkeypatch, group, configured, changed
):
    monkeypatch.setattr(registry, "ROBOTS", {"arm": Arm})
    own = Arm().spec.action.groups[0].limits
    robot = registry.make_robot("arm", {}, {"action": configured} if group else configured)
    assert robot.spec.action.groups[0].limits == replace(own, **changed)


@pytest.mark.parametrize(
    ("configured", "message"),
    [
        ({"low": 4}, r"limits.low\[0\] is 4.0, not below limits.high\[0\] = 3.0"),
        ({"velocty": 2}, "no entry 'velocty', did you mean 'velocity'"),
        ({"velocity": [1, 2, 3]}, "must be a number, or 2 of them"),
        ({"action": 3}, "limits are 3; low, high, velocity and more are needed"),
    ],
)
def test_what_it_names_is_checked_with_the_class_s_other_limits(monkeypatch, configured, message):
    monkeypatch.setattr(registry, "ROBOTS", {"arm": Arm})
    with pytest.raises(ConfigError, match=message):
        registry.make_robot("arm", {}, configured)
