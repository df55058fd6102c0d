"""Limits: what is refused, what is clamped, and what nothing gets past."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data.errors import ConfigError
from dipole.deploy import ActionSpec, Limits
from dipole.deploy.robots.rotation import angle
from dipole.deploy.safety.chunk_checks import RefusedAction, check_chunk
from dipole.deploy.safety.command_filter import ActionFilter

DT = 0.1
ONE = ActionSpec(("x",))
LIMITS = Limits(low=(-10.0,), high=(10.0,), velocity=(5.0,), acceleration=(10.0,))


def filtered(targets, start=0.0, limits=LIMITS):
    action_filter = ActionFilter(ONE, limits, DT)
    action_filter.reset(np.array([start]))
    return [action_filter(np.array([target])) for target in targets]


def positions(targets, **options):
    return [round(float(result.action[0]), 6) for result in filtered(targets, **options)]


def test_an_action_within_its_limits_passes_bit_for_bit():
    targets = np.float32([0.01, 0.03, 0.1, 0.17]).astype(np.float64)
    results = filtered(targets)
    assert [float(result.action[0]) for result in results] == targets.tolist()
    assert all(result.clamps == () for result in results)


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


def test_steady_motion_is_followed_exactly_after_catching_up():
    targets = [0.4 * (k + 1) for k in range(30)]  # 4 units/s, from rest
    limits = Limits((-100.0,), (100.0,), (5.0,), (10.0,))
    results = filtered(targets, limits=limits)
    assert [round(float(r.action[0]), 9) for r in results[-5:]] == pytest.approx(targets[-5:])
    assert results[-1].clamps == ()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40),
    st.floats(-10.0, 10.0),
    st.floats(0.1, 50.0),
    st.floats(0.1, 500.0),
)
def test_whatever_is_asked_for_no_limit_is_passed(targets, start, velocity, acceleration):
    limits = Limits((-10.0,), (10.0,), (velocity,), (acceleration,))
    path = [start, start, *(float(r.action[0]) for r in filtered(targets, start, limits))]
    slack = 1e-6
    assert min(path) >= -10.0 - slack
    assert max(path) <= 10.0 + slack
    speed = np.diff(path) / DT
    assert np.abs(speed).max() <= velocity + slack
    assert np.abs(np.diff(speed) / DT).max() <= acceleration * (1 + slack) + 1e-4


def test_a_robot_that_starts_outside_its_limits_only_moves_inwards():
    path = positions([20.0] * 9, start=12.0)
    assert path[:3] == [11.9, 11.7, 11.4]
    assert path[-1] == 10.0


def test_the_limit_is_relative_to_what_was_really_commanded():
    action_filter = ActionFilter(ONE, LIMITS, DT)
    action_filter.reset(np.array([0.0]))
    action_filter(np.array([0.1]))
    action_filter.commanded(np.array([0.05]))  # half of the way was lost to a missed slot
    assert float(action_filter(np.array([5.0])).action[0]) == pytest.approx(0.05 + 0.2)


def test_quaternions_turn_along_the_arc_at_their_limit_and_keep_their_length():
    spec = ActionSpec(("x", "qw", "qx", "qy", "qz"), quaternions=(1,))
    limits = Limits((-1.0,) * 5, (1.0,) * 5, (1.0,) * 5, (1e3,) * 5)
    action_filter = ActionFilter(spec, limits, DT)
    start = np.array([0.0, 1, 0, 0, 0])
    half_turn = np.array([0.0, 0, 0, 0, 1])
    action_filter.reset(start)
    for turned in (0.1, 0.2, 0.3):
        result = action_filter(half_turn)
        assert np.linalg.norm(result.action[1:]) == pytest.approx(1.0)
        assert angle(start[1:], result.action[1:]) == pytest.approx(turned)
        assert result.clamps == ("velocity",)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"action": np.full((16, 1), np.nan)}, "not finite"),
        ({"action": np.full((16, 1), np.inf)}, "not finite"),
        ({"action": np.full((16, 1), 1e9)}, "sets x to 1e\\+09, far outside its limits -10 to 10"),
        ({"action": np.zeros((16, 3))}, r"shape \[16, 3\]; \[H, 1\] is needed"),
        ({"action": np.zeros((0, 1))}, r"shape \[0, 1\]"),
        ({"action": np.zeros(16)}, r"shape \[16\]"),
        ({"action": np.array([["a"]])}, "dtype <U1"),
        ({"action": np.zeros((16, 1), bool)}, "dtype bool"),
        ({"action": np.zeros((16, 1), complex)}, "dtype complex128"),
        ({"action": [[1.0], [1.0, 2.0]]}, "no array"),
        ({"actions": np.zeros((16, 1))}, "no 'action': it holds 'actions'"),
        ({}, "it holds nothing"),
        (None, "no 'action'"),
    ],
)
def test_chunks_that_make_no_sense_are_refused(answer, message):
    with pytest.raises(RefusedAction, match=message):
        check_chunk(answer, ONE, LIMITS, refuse_beyond=1.0)


def test_a_little_too_far_is_clamped_and_not_refused():
    assert check_chunk({"action": np.full((4, 1), 29.0)}, ONE, LIMITS, 1.0).max() == 29.0


def test_an_action_that_is_not_finite_never_gets_through_the_filter():
    with pytest.raises(RefusedAction, match="nan"):
        filtered([np.nan])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "limits.low is not set. A robot is not moved without limits"),
        ({"low": 0, "high": 1, "velocity": 1}, "limits.acceleration is not set"),
        ({"low": 0, "high": 0, "velocity": 1, "acceleration": 1}, "not below limits.high"),
        ({"low": 0, "high": 1, "velocity": 0, "acceleration": 1}, "must be positive"),
        ({"low": 0, "high": 1, "velocity": float("inf"), "acceleration": 1}, "finite"),
        ({"low": [0, 0, 0], "high": 1, "velocity": 1, "acceleration": 1}, "or 2 of them"),
        ({"low": "a", "high": 1, "velocity": 1, "acceleration": 1}, "a number, or 2"),
        ({"lowest": 0}, "no entry 'lowest', did you mean 'low'"),
    ],
)
def test_limits_that_say_nothing_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Limits.from_dict(values, size=2)


def test_one_number_stands_for_all():
    limits = Limits.from_dict(
        {"low": 0, "high": [1, 2], "velocity": 3.0, "acceleration": 4}, size=2
    )
    assert (limits.low, limits.high) == ((0.0, 0.0), (1.0, 2.0))
