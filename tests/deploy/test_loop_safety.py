"""What the loop does so that a robot cannot move wrongly, on the virtual clock."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy import (
    ActionGroup,
    ActionSpec,
    Channel,
    ControlLoop,
    Limits,
    LoopConfig,
    RobotSpec,
    State,
    VirtualClock,
)
from dipole.deploy.inference import InferenceDied, PolicySpec, VirtualInference
from dipole.deploy.loop.states import StateError
from dipole.deploy.safety.command_filter import OutsideLimits

sys.path.insert(0, str(Path(__file__).parent / "support"))
from measured_arm import MeasuredArm, loop_of, moving, velocities
from virtual_robot import WINDOW, VirtualRobot, make_loop, run

# Where motion begins ------------------------------------------------------------------------------


def test_the_first_command_is_where_the_robot_is_measured():
    robot = MeasuredArm(VirtualClock())
    run(loop_of(robot), 0.5)
    assert np.abs(robot.sent[0][1] - [1.5, -1.0]).max() < 1e-6
    assert np.abs(np.stack([c for _, c in robot.sent]) - [1.5, -1.0]).max() < 1e-6


def test_a_position_without_a_measurement_is_refused():
    with pytest.raises(ConfigError, match=r"give measured_by=.*or kind="):
        ActionSpec(("a", "b"), unit="rad")
    with pytest.raises(ConfigError, match="without measured_by"):
        ActionSpec(("a", "b"), unit="rad", kind="joint_position")


def test_joints_that_are_no_numbers_never_arm_although_the_policy_does_not_see_them():
    robot = MeasuredArm(VirtualClock(), measure=lambda x: x * np.nan)
    with pytest.raises(StateError, match="joints"):
        loop_of(robot).prepare()
    assert robot.sent == []


def test_joints_that_become_no_numbers_lead_to_a_hold_and_nothing_but_numbers_is_sent():
    clock = VirtualClock()
    robot = MeasuredArm(clock, measure=lambda x: x * (np.nan if 0.5 < clock.now() < 1.0 else 1.0))
    loop = loop_of(robot)
    report = run(loop, 2.0)
    assert np.isfinite([command for _, command in robot.sent]).all()
    assert [str(t.state) for t in report.transitions].count("HOLD") == 1
    assert loop.states.state is State.STOPPED


def test_joints_measured_too_long_ago_never_arm():
    robot = MeasuredArm(VirtualClock(100.0), seen_at=lambda now: 1.0)
    with pytest.raises(StateError, match="no usable observation"):
        loop_of(robot).prepare()


def test_a_robot_outside_its_limits_is_not_armed():
    robot = MeasuredArm(VirtualClock())
    robot.x = np.array([3.5, 0.0])
    with pytest.raises(
        OutsideLimits, match=r"a is measured at 3\.5 rad, outside its limits -3 to 3"
    ):
        loop_of(robot).prepare()


# HOLD and the end -----------------------------------------------------------------------------


def test_the_end_is_a_braking_ramp_before_the_robots_stop():
    robot = MeasuredArm(VirtualClock())
    report = run(loop_of(robot, moving), 0.8)
    velocity = velocities(robot)
    assert np.abs(velocity).max() > 0.3
    assert not velocity[-1].any()
    assert np.abs(np.diff(velocity, axis=0)).max() <= 4.0 * 0.01 * (1 + 1e-6)
    assert [str(t.state) for t in report.transitions][-2:] == ["STOPPING", "STOPPED"]
    assert robot.calls[-1] == "stop"


def test_a_fault_of_inference_brakes_as_well():
    robot = MeasuredArm(VirtualClock())
    loop = loop_of(robot, moving)

    def die():
        raise InferenceDied("gone")

    robot.clock.call_at(0.5, lambda: setattr(loop._inference, "poll", die))
    run(loop, 5.0)
    assert loop.states.reason == "gone"
    assert not velocities(robot)[-1].any()
    assert np.abs(np.diff(velocities(robot), axis=0)).max() <= 4.0 * 0.01 * (1 + 1e-6)


def test_a_sagging_arm_does_not_creep_in_hold():
    clock = VirtualClock()
    robot = MeasuredArm(clock, measure=lambda x: x - 0.05)  # the load pulls it below its setpoint
    answers = iter([True])
    loop = loop_of(robot, moving, delay=lambda t: 0.0 if next(answers, False) else np.inf,
                   warmup_calls=0, max_hold=10.0)  # fmt: skip
    run(loop, 8.0)
    setpoints = np.stack([command for moment, command in robot.sent if moment > 3.0])
    assert (setpoints == setpoints[0]).all()


def test_a_fault_that_another_thread_sees_stops_the_robot_at_once():
    robot = MeasuredArm(VirtualClock())
    loop = loop_of(robot, moving)
    robot.clock.call_at(0.5, lambda: loop.fault("stuck"))
    report = run(loop, 5.0)
    assert loop.states.reason == "stuck"
    assert robot.calls.count("stop") == 1
    assert report.stopped is True
    assert robot.sent[-1][0] <= 0.5


def test_a_second_interrupt_in_the_braking_ramp_still_stops_the_robot():
    robot = MeasuredArm(VirtualClock())
    loop = loop_of(robot, moving)

    def interrupt(n):
        if robot.clock.now() > 0.52:
            raise KeyboardInterrupt

    robot.fault = interrupt
    robot.clock.call_at(0.5, lambda: loop.request_stop("SIGINT"))
    loop.prepare()
    loop.arm()
    with pytest.raises(KeyboardInterrupt):
        loop.run(5.0)
    assert loop.states.ended
    assert robot.calls.count("stop") == 1


def test_a_driver_may_convert_a_command_in_place():
    robot = MeasuredArm(VirtualClock())
    command = robot.command

    def in_degrees(action):
        command(action.copy())
        action *= 180 / np.pi

    robot.command = in_degrees
    report = run(loop_of(robot, moving), 0.8)
    assert report.transitions[-1].reason == "the time is up"
    assert np.abs(np.stack([c for _, c in robot.sent])).max() < 3.0


def test_holds_at_each_seam_do_not_hide_that_limits_are_met():
    robot = MeasuredArm(VirtualClock())
    far = lambda _ticket, _seen: {"action": np.full((16, 2), 3.5)}  # noqa: E731  outside the box
    loop = loop_of(robot, far, delay=0.9, max_limited=5.0, max_approach=20.0, n_action_steps=15)
    report = run(loop, 200.0)
    assert report.counts["holds"] > 3
    assert "without a pause" in loop.states.reason


def test_a_gripper_told_a_little_more_than_shut_is_at_its_limit_and_goes_on():
    clock = VirtualClock()
    robot = VirtualRobot(clock)
    limits = Limits((0.0,), (1.0,), (2.0,), (20.0,))
    gripper = ActionGroup("gripper", "gripper", ("g",), measured_by="x", columns=(0,),
                          limits=limits)  # fmt: skip
    robot.spec = RobotSpec({"x": Channel((2,))}, ActionSpec.of(gripper))
    robot.command = lambda action: robot.sent.append((clock.now(), action.copy()))
    inference = VirtualInference(PolicySpec({"x": (2,)}, 1, WINDOW),
                                 lambda _ticket, _seen: {"action": np.full((16, 1), 1.01)},
                                 clock)  # fmt: skip
    loop = ControlLoop(robot, inference, LoopConfig(), clock=clock)
    report = run(loop, 60.0)
    assert loop.states.reason == "the time is up"
    assert report.counts["clamps_position"] > 5000


def test_a_write_that_takes_most_of_a_period_costs_no_slot():
    clock = VirtualClock()
    robot = VirtualRobot(clock, fault=lambda _n: clock.advance(0.007))
    loop, _ = make_loop(robot=robot, clock=clock, control_hz=100.0)
    run(loop, 1.0)
    assert len(robot.sent) == 101
    assert np.diff([moment for moment, _ in robot.sent]).min() > 0.0099


def test_at_a_low_rate_one_missed_slot_is_a_robot_that_stands():
    assert LoopConfig(policy_hz=10, control_hz=10).resolved().max_missed == 0
    assert LoopConfig(policy_hz=10, control_hz=50).resolved().max_missed == 1
    assert LoopConfig().resolved().max_missed == 2
