"""Rotation vectors and angles at another rate: along the arc, or said."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from dipole.data.sources.combine.resampled import resampled
from dipole.data.transforms.angle_columns import rotation_vector_columns

sys.path.insert(0, str(Path(__file__).parent))
from array_source import SETTINGS, ArraySource, column, whole

ANGLES = np.pi + 0.6 * np.sin(np.arange(61) / 5)  # about half a turn, where rotation vectors flip
TILTED = np.array([0.8, 0.6, 0.0])


def vectors(axis=TILTED, angles=ANGLES):
    return np.float32(Rotation.from_rotvec(angles[:, None] * axis).as_rotvec())


def error(found, stored):
    """The largest angle between what was found at twice the rate and the rotations between."""
    at = np.arange(len(found)) / 2
    right = Slerp(np.arange(len(stored)), Rotation.from_rotvec(stored))(at)
    return (Rotation.from_rotvec(found) * right.inv()).magnitude().max()


def warnings_of(source, *keys):
    fine = resampled(source, 20)
    for key in keys:
        whole(fine, key)
    return fine.info.warnings


@pytest.mark.parametrize("axis", [TILTED, np.array([1.0, 0, 0])])
@pytest.mark.parametrize(
    ("key", "meaning"),
    [
        ("eef_rot_axis_angle", {}),
        ("eef_rot_axis_angle", {"units": "rad"}),
        ("action", {"names": ("rotvec_x", "rotvec_y", "rotvec_z")}),
        ("robot0_rotvec", {"names": ("rx", "ry", "rz")}),
    ],
)
def test_named_rotation_vectors_go_along_the_arc(key, meaning, axis):
    stored = vectors(axis)
    assert np.abs(np.diff(stored, axis=0)).max() > 3  # it flips
    fine = resampled(ArraySource({key: stored}, **{key: meaning}), 20)
    found = whole(fine, key)
    assert error(found, stored) < 1e-3
    assert np.abs(found[::2] - stored).max() < 1e-5
    assert fine.info.warnings == ()


def test_rotation_vectors_in_degrees_are_turned_too():
    stored = vectors()
    degrees = np.rad2deg(stored)
    source = ArraySource({"axis_angle": degrees}, axis_angle={"units": "deg"})
    found = whole(resampled(source, 20), "axis_angle")
    assert error(np.deg2rad(found), stored) < 1e-3
    assert np.abs(found[::2] - degrees).max() < 1e-3


def test_rotation_vectors_beyond_half_a_turn_stay_as_they_are_written():
    stored = np.float32(np.linspace(0, 3 * np.pi, 40)[:, None] * TILTED)
    found = whole(resampled(ArraySource({"rotvec": stored}), 20), "rotvec")
    expected = np.linspace(0, 3 * np.pi, 79)[:, None] * TILTED
    assert np.abs(found - expected).max() < 1e-4


@SETTINGS
@given(st.integers(0, 2**32 - 1))
def test_any_rotation_vectors_go_along_the_arc(seed):
    rng = np.random.default_rng(seed)
    turned = Rotation.from_rotvec(0.4 * rng.normal(size=(20, 3)))
    for number in range(1, 20):
        turned[number] = turned[number] * turned[number - 1]
    stored = turned.as_rotvec()
    found = whole(resampled(ArraySource({"rotvec": stored}), 20), "rotvec")
    assert error(found, stored) < 1e-6


@pytest.mark.parametrize("units", ["", "rad"])
def test_what_flips_as_a_rotation_vector_is_said(units):
    action = np.concatenate([np.float32(np.arange(61)[:, None] / 9), vectors()], 1)
    (warning,) = warnings_of(ArraySource({"action": action}, action={"units": units}), "action")
    assert warning.startswith("'action': columns 1 to 3 flip at half a turn")
    assert "--convert action:1-3=rotation_vector_to_6d" in warning


@pytest.mark.parametrize("turn", [2 * np.pi, 360.0])
def test_a_column_that_wraps_as_an_angle_is_said(turn):
    wrapped = (ANGLES / (2 * np.pi) * turn + turn / 2) % turn - turn / 2
    action = np.float32(np.stack([np.arange(61) / 9, wrapped], 1))
    (warning,) = warnings_of(ArraySource({"action": action}), "action")
    assert warning.startswith("'action': column 1 jumps by about a full turn")
    assert "--convert action:1=angle_to_sin_cos" in warning
    yaw = ArraySource({"yaw": np.float32(wrapped)})  # one number a frame
    assert "'yaw': column 0 jumps" in warnings_of(yaw, "yaw")[0]


def test_angles_of_known_units_switches_and_other_numbers_are_not_said():
    wrapped = np.float32((ANGLES + np.pi) % (2 * np.pi) - np.pi)[:, None]
    metres = {"units": "m"}
    assert warnings_of(ArraySource({"yaw": wrapped}, yaw={"units": "rad"}), "yaw") == ()
    assert warnings_of(ArraySource({"x": wrapped}, x=metres), "x") == ()
    switch = column(*([0.0] * 5 + [2 * np.pi] * 5))
    assert warnings_of(ArraySource({"action": switch}), "action") == ()
    walk = np.float32(np.random.default_rng(0).normal(size=(300, 7)).cumsum(0) * 0.3)
    assert warnings_of(ArraySource({"action": walk}), "action") == ()


def test_rotation_vectors_are_known_by_names_or_a_key():
    names = ("x", "rot_axis_angle.0", "rot_axis_angle.1", "rot_axis_angle.2", "gripper")
    assert rotation_vector_columns("action", names, (5,)) == [(1, 2, 3)]
    assert rotation_vector_columns("robot0_eef_rot_axis_angle", (), (3,)) == [(0, 1, 2)]
    assert rotation_vector_columns("eef_pos", (), (3,)) == []
    assert rotation_vector_columns("rotvec", (), (4,)) == []
    assert rotation_vector_columns("rotvec", (), (3, 3)) == []
