"""From actions at the policy's rate to commands at the command rate."""

import numpy as np
import pytest

from dipole.data.transforms.rotation import angle
from dipole.deploy import ActionGroup, ActionSpec, Channel, Limits, LoopConfig, RobotSpec
from dipole.deploy.chunks.interpolation import Interpolation
from dipole.deploy.loop.motion import Motion

ONE = ActionSpec(("x",), "rad", measured_by="x")
TURNS = np.pi * 2


def robot_of(velocity, acceleration, low=-10.0, high=10.0):
    limits = Limits((low,), (high,), (velocity,), (acceleration,))
    return RobotSpec({"x": Channel((1,))}, ONE, limits)


def motion_of(robot, **settings):
    motion = Motion(robot, LoopConfig(**settings).resolved())
    motion.start(np.zeros(robot.action.size))
    return motion


def commands(motion, count):
    return [float(motion.next().values[0]) for _ in range(count)]


# Interpolation --------------------------------------------------------------------------------


def references(kind, actions, steps=10, spec=ONE):
    between = Interpolation(spec, steps, kind)
    between.start(np.atleast_1d(np.zeros(spec.size)))
    found = []
    for action, following in zip(actions, [*actions[1:], None], strict=True):
        between.aim(np.atleast_1d(action), None if following is None else np.atleast_1d(following))
        found += [between.next() for _ in range(steps)]
    return np.stack(found)


def test_cubic_passes_through_the_actions_with_a_continuous_velocity():
    actions = [np.array([value]) for value in (0.1, 0.3, 0.2, 0.2, 0.5)]
    path = references("cubic", actions)[:, 0]
    assert path[9::10].tolist() == [0.1, 0.3, 0.2, 0.2, 0.5]
    straight = references("linear", actions)[:, 0]
    jump = lambda line: np.abs(np.diff(line, n=2, prepend=[0.0, 0.0])).max()  # noqa: E731
    assert jump(path) < 0.35 * jump(straight)


def test_linear_goes_at_constant_speed_and_a_step_at_once():
    assert references("linear", [np.array([1.0])], 4)[:, 0].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert references("step", [np.array([1.0])], 4)[:, 0].tolist() == [1.0] * 4


def test_a_group_may_have_its_own_interpolation():
    spec = ActionSpec.of(
        ActionGroup("a", "joint_position", ("x",), "rad", measured_by="x"),
        ActionGroup("b", "joint_position", ("y",), "rad", measured_by="y", interpolation="step"),
        ActionGroup("c", "discrete", ("z",), values=(0.0, 1.0), rest=0.0),
    )
    path = references("linear", [np.array([1.0, 1.0, 1.0])], 4, spec)
    assert path[0].tolist() == [0.25, 1.0, 1.0]


def test_an_angle_without_an_end_goes_the_short_way():
    spec = ActionSpec.of(
        ActionGroup("yaw", "joint_position", ("yaw",), "rad", measured_by="x", continuous=("yaw",))
    )
    between = Interpolation(spec, 4, "linear")
    between.start(np.array([3.0]))
    between.aim(np.array([-3.0]))
    assert [float(between.next()[0]) for _ in range(4)] == pytest.approx(
        np.linspace(3.0, TURNS - 3.0, 5)[1:].tolist()
    )


def test_a_rotation_turns_at_constant_speed_the_short_way():
    spec = ActionSpec(("x", "y", "z", "w"), quaternions=(0,), measured_by="x")
    start, end = np.array([0.0, 0, 0, 1]), np.array([0.0, 0, np.sin(0.4), np.cos(0.4)])  # 0.8 rad
    between = Interpolation(spec, 4, "cubic")
    between.start(start)
    between.aim(-end)
    turned = [angle(start, between.next()) for _ in range(4)]
    assert turned == pytest.approx([0.2, 0.4, 0.6, 0.8])


# Motion -------------------------------------------------------------------------------------------


def test_hold_brakes_and_then_repeats_its_setpoint_bit_for_bit():
    motion = motion_of(robot_of(1.0, 4.0))
    motion.follow(np.array([0.5]))
    moving = commands(motion, 10)
    motion.hold()
    held = commands(motion, 40)
    velocity = np.diff([0.0, *moving, *held]) / 0.01
    assert np.abs(np.diff(velocity, prepend=0.0)).max() / 0.01 <= 4.0 * (1 + 1e-9)
    assert motion.at_rest
    assert held[-10:] == [held[-1]] * 10
    assert held[-1] > moving[-1]  # it braked, and did not stop at once


def test_resuming_continues_from_the_setpoint():
    motion = motion_of(robot_of(1.0, 4.0))
    motion.follow(np.array([0.5]))
    commands(motion, 10)
    motion.hold()
    last = commands(motion, 40)[-1]
    motion.follow(np.array([last + 0.1]))
    assert 0 < commands(motion, 1)[0] - last <= 4.0 * 0.01**2 * (1 + 1e-9)


def test_after_missed_slots_it_starts_from_rest():
    motion = motion_of(robot_of(1.0, 4.0), max_missed=2)
    motion.follow(np.array([5.0]))
    before = commands(motion, 30)
    assert float(motion.next(missed=2).values[0]) - before[-1] == pytest.approx(0.01)
    last = float(motion.next().values[0])
    assert float(motion.next(missed=3).values[0]) - last == pytest.approx(4.0 * 0.01**2)


def test_a_motion_within_the_limits_is_no_approach_and_never_limited():
    motion = motion_of(robot_of(10.0, 1e4))
    for step in range(20):
        motion.follow(np.array([0.01 * step]))
        commands(motion, 10)
    assert not motion.approaching
    assert motion.limited_for == 0.0


def test_what_stays_where_the_robot_is_was_reached_although_a_slot_of_every_action_is_missed():
    motion = motion_of(robot_of(10.0, 1e4))
    for _ in range(3):
        motion.follow(np.zeros(1))
        commands(motion, 8)
        motion.next(missed=1)
    assert not motion.approaching


def test_what_is_far_away_is_approached_and_a_motion_too_fast_is_limited():
    motion = motion_of(robot_of(1.0, 4.0))
    motion.follow(np.array([1.0]))
    commands(motion, 50)
    assert motion.approaching
    assert motion.limited_for == pytest.approx(0.5, abs=0.15)
    commands(motion, 100)
    assert not motion.approaching
    assert motion.limited_for == 0.0
    motion.follow(np.array([-5.0]))
    commands(motion, 100)
    assert not motion.approaching
    assert motion.limited_for > 0.8


def test_a_target_at_the_edge_in_single_precision_is_no_clamp():
    robot = robot_of(1.0, 1e3, low=0.0, high=0.1)
    motion = Motion(robot, LoopConfig().resolved())
    motion.start(np.array([0.1]))
    motion.follow(np.asarray([np.float32(0.1)], np.float64))
    found = [motion.next() for _ in range(20)]
    assert all(command.clamps == () for command in found)
    assert float(found[-1].values[0]) <= 0.1


def test_limits_that_are_met_are_named_by_group():
    limits = Limits((-1.0,), (1.0,), (0.5,), (50.0,))
    spec = ActionSpec.of(
        ActionGroup("arm", "joint_position", ("x",), "rad", measured_by="x", limits=limits),
        ActionGroup("tool", "joint_position", ("y",), "rad", measured_by="x", limits=limits),
    )
    motion = motion_of(RobotSpec({"x": Channel((1,))}, spec))
    motion.follow(np.array([0.0, 3.0]))
    met = {clamp for _ in range(10) for clamp in motion.next().clamps}
    assert {"tool position", "tool velocity"} <= met
    assert not any(clamp.startswith("arm") for clamp in met)


def test_a_base_slows_down_in_hold_and_stands_still():
    limits = Limits((-1.0,), (1.0,), (2.0,), (40.0,))
    spec = ActionSpec.of(ActionGroup("base", "twist", ("vx",), "m/s", limits=limits))
    motion = motion_of(RobotSpec({}, spec))
    motion.follow(np.array([0.6]))
    assert commands(motion, 60)[-1] == 0.6
    motion.hold()
    slowing = commands(motion, 60)
    assert slowing[-1] == 0.0
    assert slowing == sorted(slowing, reverse=True)
    assert np.abs(np.diff(slowing)).max() <= 2.0 * 0.01 * (1 + 1e-9)
    assert motion.at_rest
