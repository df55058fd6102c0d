"""The command filter: what passes, how it speeds up and brakes, what it never does."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy import ActionGroup, ActionSpec, Limits, VirtualClock
from dipole.deploy.safety.chunk_checks import RefusedAction, check_chunk
from dipole.deploy.safety.command_filter import CommandFilter, OutsideLimits

sys.path.insert(0, str(Path(__file__).parent / "support"))
from filtered_groups import DT, LIMITS, filter_of, group_of
from virtual_robot import VirtualRobot, make_loop, run


def filtered(targets, start=0.0, limits=LIMITS, dt=DT):
    command_filter = filter_of(group_of(limits=limits), [start], dt)
    return [
        command_filter.step(None if target is None else np.array([target])) for target in targets
    ]


def positions(targets, **options):
    return [float(command.values[0]) for command in filtered(targets, **options)]


# Following ----------------------------------------------------------------------------------------


def test_an_action_within_its_limits_passes_bit_for_bit():
    targets = np.float32([0.01, 0.03, 0.1, 0.17]).astype(np.float64)
    commands = filtered(targets)
    assert [float(command.values[0]) for command in commands] == targets.tolist()
    assert all(command.clamps == () for command in commands)


def test_a_number_outside_its_limits_is_told_in_its_own_unit():
    base = ActionGroup("base", "twist", ("v", "w"), "m/s, rad/s", measured_by="odometry",
                       limits=Limits((-1.0,) * 2, (1.0,) * 2, (1.0,) * 2, (4.0,) * 2))  # fmt: skip
    with pytest.raises(OutsideLimits, match=r"w is measured at 2 rad/s, outside its limits"):
        CommandFilter(ActionSpec.of(base), 0.01).reset(np.array([0.0, 2.0]))


def test_speed_builds_up_by_acceleration_and_stays_below_its_limit():
    # acceleration 10 adds 1 unit/s, and 0.1 units of way, in each 0.1 s; velocity 5 is 0.5 a step
    way = np.diff([0.0, *positions([9.0] * 9)])
    assert way[:7].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5])


def test_the_clamps_are_named():
    assert filtered([9.0])[0].clamps == ("velocity",)
    assert filtered([0.3])[0].clamps == ("acceleration",)
    assert filtered([12.0], start=10.0)[0].clamps == ("position",)


def test_a_target_far_away_is_reached_without_swinging_past_it():
    path = positions([3.0] * 40)
    assert path[-1] == 3.0
    assert max(path) == 3.0
    assert path == sorted(path)


def test_a_moving_reference_is_followed_exactly_after_catching_up():
    targets = [0.4 * (k + 1) for k in range(30)]  # 4 units/s, from rest
    commands = filtered(targets, limits=Limits((-100.0,), (100.0,), (5.0,), (10.0,)))
    assert [float(command.values[0]) for command in commands[-5:]] == targets[-5:]
    assert commands[-1].clamps == ()
    assert commands[-1].behind == 0.0


def test_from_rest_to_rest_the_way_over_several_axes_is_straight():
    limits = Limits((-9.0,) * 3, (9.0,) * 3, (1.0, 5.0, 3.0), (10.0, 4.0, 20.0))
    goal = np.array([2.0, 3.0, -5.0])
    command_filter = filter_of(group_of(3, limits), [0.0, 0.0, 0.0])
    path = np.stack([command_filter.step(goal).values for _ in range(80)])
    assert path[-1].tolist() == goal.tolist()
    assert np.abs(path / goal - (path / goal)[:, :1]).max() < 1e-9


def test_it_brakes_in_time_for_the_edge():
    path = np.array(positions([50.0] * 60))  # five times as far as the box is wide
    velocity = np.diff([0.0, *path]) / DT
    assert path.max() == path[-1] == 10.0
    assert np.abs(np.diff(velocity, prepend=0.0)).max() <= 1.0 + 1e-9
    assert velocity.max() == pytest.approx(5.0)


def test_a_float32_at_a_limit_is_no_clamp():
    limits = Limits((0.0,), (0.1,), (5.0,), (100.0,))
    command = filtered([float(np.float32(0.1))], start=0.1, limits=limits)[0]
    assert command.clamps == ()
    assert float(command.values[0]) == 0.1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_reference_that_is_not_finite_brakes(wrong):
    path = positions([9.0, 9.0, 9.0, *[wrong] * 5])
    assert np.diff(path).tolist() == pytest.approx([0.2, 0.3, 0.2, 0.1, 0, 0, 0])


# HOLD, resuming, missed slots ---------------------------------------------------------------------


def test_hold_brakes_and_repeats_the_same_setpoint_bit_for_bit():
    path = positions([9.0, 9.0, 9.0, *[None] * 6])
    assert np.diff(path).tolist() == pytest.approx([0.2, 0.3, 0.2, 0.1, 0, 0, 0, 0])
    assert len({repr(x) for x in path[-4:]}) == 1


def test_resuming_continues_from_the_setpoint():
    path = positions([9.0, 9.0, *[None] * 4, 9.0])
    assert path[-1] - path[-2] == pytest.approx(0.1)  # as from rest


def test_after_missed_slots_it_starts_from_rest():
    command_filter = filter_of(group_of(), [0.0])
    path = [float(command_filter.step(np.array([9.0])).values[0]) for _ in range(5)]
    command_filter.rest()
    path.append(float(command_filter.step(np.array([9.0])).values[0]))
    assert np.diff(path).tolist() == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.1])


def test_velocities_go_to_zero_in_hold_and_keep_what_they_had_after_missed_slots():
    group = group_of(limits=Limits((-1.0,), (1.0,), (2.0,), (20.0,)), kind="twist", unit="m/s")
    command_filter = filter_of(group, [0.0])
    sped_up = [float(command_filter.step(np.array([1.0])).values[0]) for _ in range(10)]
    assert sped_up[-1] == 1.0
    command_filter.rest()
    assert float(command_filter.step(np.array([1.0])).values[0]) == 1.0
    slowed = [float(command_filter.step(None).values[0]) for _ in range(10)]
    assert np.abs(np.diff([1.0, *slowed])).max() <= 0.2 + 1e-9
    assert slowed[-1] == 0.0
    assert command_filter.at_rest


@pytest.mark.parametrize(
    ("kind", "limits"),
    [("twist", Limits((-1.0,), (2.0,), (3.0,), (0.7,))), ("joint_position", LIMITS)],
)
def test_stopping_takes_no_longer_than_it_says(kind, limits):
    command_filter = filter_of(group_of(limits=limits, kind=kind), [0.0])
    rng = np.random.default_rng(0)
    for _ in range(20):
        for goal in rng.uniform(-3, 3, 15):
            command_filter.step(np.array([goal]))
        count = 0
        while not command_filter.at_rest:
            command_filter.step(None)
            count += 1
        assert count <= command_filter.stopping_seconds / DT + 1


# Angles and values --------------------------------------------------------------------------------


def test_a_continuous_joint_goes_the_short_way():
    group = group_of(unit="rad", continuous=("x0",))
    command_filter = filter_of(group, [3.1])
    path = [float(command_filter.step(np.array([-3.1])).values[0]) for _ in range(5)]
    assert path == sorted(path)
    assert path[-1] == pytest.approx(2 * np.pi - 3.1)


def test_an_angle_lost_in_rounding_brakes_and_its_chunk_is_refused():
    group = group_of(unit="rad", continuous=("x0",))
    command_filter = filter_of(group, [0.0])
    for wild in (1e300, -1e308, 1e308):
        assert command_filter.step(np.array([wild])).values.tolist() == [0.0]
    with pytest.raises(RefusedAction, match="x0"):
        check_chunk({"action": np.full((4, 1), 1e17)}, ActionSpec.of(group), 1e300)


def test_discrete_numbers_take_the_nearest_of_their_values():
    group = group_of(2, None, "discrete", values=(0.0, 1.0), rest=0.0)
    command_filter = filter_of(group, [0.0, 0.0])
    assert command_filter.step(np.array([0.7, 0.2])).values.tolist() == [1.0, 0.0]
    assert command_filter.step(np.array([np.nan, 1.0])).values.tolist() == [1.0, 0.0]
    assert command_filter.step(None).values.tolist() == [1.0, 0.0]


def test_a_discrete_group_may_go_to_its_rest_in_hold():
    group = group_of(1, None, "discrete", values=(0.0, 1.0), rest=0.0, hold="rest")
    command_filter = filter_of(group, [0.0])
    assert command_filter.step(np.array([1.0])).values.tolist() == [1.0]
    assert not command_filter.at_rest
    assert command_filter.step(None).values.tolist() == [0.0]
    assert command_filter.at_rest


# The start ----------------------------------------------------------------------------------------


def test_a_robot_outside_its_limits_is_refused_by_name():
    with pytest.raises(OutsideLimits, match="x0 is measured at 12 rad, outside its limits -10 to"):
        filter_of(group_of(unit="rad"), [12.0])


def test_a_robot_just_outside_goes_to_the_edge_first_and_no_further():
    # velocity 5 allows 0.5 a step, of which the way to the edge takes 0.45
    assert positions([0.0] * 3, start=10.45) == pytest.approx([10.0, 9.9, 9.7])
    assert filtered([0.0], start=10.45)[0].clamps == ("position",)


def test_a_new_start_is_at_rest_for_velocities_too():
    group = group_of(limits=Limits((-1.0,), (1.0,), (2.0,), (20.0,)), kind="twist", unit="m/s")
    command_filter = filter_of(group, [0.0])
    command_filter.step(np.array([1.0]))
    command_filter.reset(np.zeros(1))
    assert command_filter.at_rest
    assert command_filter.step(np.array([0.5])).values.tolist() == [0.2]


def test_a_velocity_that_cannot_be_zero_is_a_config_error():
    with pytest.raises(
        ConfigError, match=r"x0 goes from 0\.2 to 1: a velocity must be able to be 0"
    ):
        group_of(limits=Limits((0.2,), (1.0,), (2.0,), (20.0,)), kind="twist", unit="m/s")


# Through the loop ---------------------------------------------------------------------------------

SLOW = Limits((-500.0,) * 2, (500.0,) * 2, (10.0,) * 2, (20.0,) * 2)  # 1 unit a command


def sent_with(clock=None, limits=SLOW, seconds=3.0, control_hz=10.0, **robot_options):
    clock = clock or VirtualClock()
    robot = VirtualRobot(clock, limits, **robot_options)
    far = lambda _ticket, _seen: {"action": np.full((16, 2), 400.0)}  # noqa: E731
    loop, _ = make_loop(far, robot=robot, clock=clock, call_timeout=10.0, control_hz=control_hz,
                        max_observation_age=1.0)  # fmt: skip
    report = run(loop, seconds)
    times, values = zip(*robot.sent, strict=True)
    return np.array(times), np.array(values)[:, 0], report


def test_a_sensor_that_stalls_within_a_slot_counts_as_missed_slots():
    """Its command is late itself: the robot has stood still, and starts from rest."""
    clock = VirtualClock()
    calls = []

    def look(reading):
        calls.append(reading)
        clock.advance(0.45 if len(calls) == 13 else 0.0)
        return reading

    times, path, _ = sent_with(clock, look=look)
    late = int(np.argmax(np.diff(times))) + 1
    assert times[late] - times[late - 1] == pytest.approx(0.55)
    steps = np.diff(path)
    assert steps[late - 2] == pytest.approx(1.0)  # at full speed before
    assert steps[late - 1 : late + 2].tolist() == pytest.approx([0.2, 0.4, 0.6])


def test_a_braking_ramp_is_not_cut_short_by_missed_slots():
    clock = VirtualClock()
    limits = Limits((-500.0,) * 2, (500.0,) * 2, (100.0,) * 2, (1e3,) * 2)  # ten commands to stop
    asked = []

    def fault(n):
        if n >= 20:  # each of the last calls takes two slots and a half
            asked.append(n)
            clock.advance(0.025)

    _, path, report = sent_with(clock, limits, 0.2, control_hz=100.0, fault=fault)
    assert report.stopped
    assert path[-1] == path[-2]
    assert np.abs(np.diff(np.diff(path))).max() <= 0.1 + 1e-9


@pytest.mark.parametrize("continuous", [True, False])
def test_limits_that_are_meant_as_none_loosen_no_other_limit(continuous):
    limits = Limits((-1e9,), (1e9,), (1.0,), (1e9,))
    group = ActionGroup("g", "joint_position", ("x",), "rad", measured_by="x", limits=limits,
                        continuous=("x",) if continuous else ())  # fmt: skip
    command_filter = CommandFilter(ActionSpec.of(group), 0.01)
    command_filter.reset(np.zeros(1))
    path = [0.0, *(float(command_filter.step(np.array([0.25])).values[0]) for _ in range(40))]
    assert path[-1] == 0.25
    assert np.diff(path).max() <= 0.01 * (1 + 1e-9)
