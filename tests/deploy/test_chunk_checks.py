"""Limits that say nothing and chunks that make no sense are refused, and never corrected."""

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy import ActionGroup, ActionSpec, Limits
from dipole.deploy.safety.chunk_checks import RefusedAction, check_chunk

DT = 0.1
LIMITS = Limits(low=(-10.0,), high=(10.0,), velocity=(5.0,), acceleration=(10.0,))


def spec_of(**options):
    given = {"name": "g", "kind": "joint_position", "names": ("x",), "measured_by": "x",
             "limits": LIMITS}  # fmt: skip
    return ActionSpec.of(ActionGroup(**given | options))


def checked(answer, spec=None, refuse_beyond=1.0, measured=None):
    return check_chunk(answer, spec or spec_of(), refuse_beyond, measured)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"action": np.full((16, 1), np.nan)}, "not finite"),
        ({"action": np.full((16, 1), np.inf)}, "not finite"),
        ({"action": np.full((16, 1), np.longdouble("1e4000"))}, "not finite"),
        ({"action": np.full((16, 1), 1e9)}, r"sets x to 1e\+09, far outside its limits -10 to 10"),
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
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_chunks_that_make_no_sense_are_refused(answer, message):
    with pytest.raises(RefusedAction, match=message):
        checked(answer)


def test_a_little_too_far_is_left_to_the_command_filter():
    assert checked({"action": np.full((4, 1), 29.0)}).max() == 29.0
    assert checked({"action": np.full((4, 1), 1e6)}, refuse_beyond=1e6).max() == 1e6


def test_whole_numbers_and_single_precision_are_taken():
    assert checked({"action": [[1], [2]]}).tolist() == [[1.0], [2.0]]
    assert checked({"action": np.float32([[0.5]])}).dtype == np.float64


def test_discrete_numbers_become_their_values_and_those_far_outside_are_refused():
    spec = spec_of(kind="discrete", limits=None, measured_by="", values=(0.0, 1.0), rest=0.0)
    assert checked({"action": [[1.4]]}, spec).tolist() == [[1.0]]
    with pytest.raises(RefusedAction, match="sets x to 3, far outside its limits 0 to 1"):
        checked({"action": [[3.0]]}, spec)


def test_an_angle_that_wraps_within_a_chunk_is_refused_by_name():
    spec = spec_of(unit="rad")
    with pytest.raises(RefusedAction, match=r"x goes from 3.1 to -3.1 rad, .* continuous=\('x',\)"):
        checked({"action": [[3.1], [-3.1]]}, spec)
    with pytest.raises(RefusedAction, match=r"x goes from 3.1 to -3.1 rad"):
        checked({"action": [[-3.1], [-3.0]]}, spec, measured=np.array([3.1]))
    with pytest.raises(RefusedAction, match="about a full turn"):  # however long the chunk is
        checked({"action": [[3.1]] * 25 + [[-3.1]] * 25}, spec)
    continuous = spec_of(unit="rad", continuous=("x",))
    assert checked({"action": [[3.1], [-3.1]]}, continuous).tolist() == [[3.1], [-3.1]]


def test_a_motion_of_half_a_turn_and_one_from_far_away_are_none():
    spec = spec_of(unit="rad")
    assert checked({"action": [[-1.6], [1.6]]}, spec) is not None
    assert checked({"action": [[0.0]]}, spec, measured=np.array([3.3])) is not None


def test_each_number_has_its_own_unit_and_so_its_own_turn():
    limits = Limits((-7.0,) * 2, (7.0,) * 2, (1.0,) * 2, (1.0,) * 2)
    spec = spec_of(names=("x", "y"), unit="rad, m", limits=limits)
    assert checked({"action": [[0.0, 3.1], [0.0, -3.1]]}, spec) is not None
    with pytest.raises(RefusedAction, match="x goes from"):
        checked({"action": [[3.1, 0.0], [-3.1, 0.0]]}, spec)


@pytest.mark.parametrize("angle", [1e7, -1e17, 1e308])
def test_an_angle_without_an_end_that_is_lost_in_rounding_is_refused(angle):
    with pytest.raises(RefusedAction, match="sets x to"):
        checked({"action": [[angle]]}, spec_of(unit="rad", continuous=("x",)), 1e300)


@pytest.mark.parametrize(
    ("rotation", "numbers"),
    [
        ("quaternion_xyzw", [0.0] * 4),
        ("quaternion_wxyz", [1e-12] * 4),
        ("quaternion_xyzw", [1.7e308] * 4),
        ("rotation_6d", [1.0, 0, 0, 2, 0, 0]),
    ],
)
def test_numbers_that_are_no_rotation_are_refused(rotation, numbers):
    n = len(numbers)
    limits = Limits((-1.0,) * n, (1.0,) * n, (1.0,) * n, (1.0,) * n)
    names = tuple(f"r{i}" for i in range(n))
    spec = spec_of(name="tool", kind="pose", names=names, rotation=rotation, limits=limits)
    with pytest.raises(RefusedAction, match="group 'tool': the rotation"):
        checked({"action": [numbers]}, spec)


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
