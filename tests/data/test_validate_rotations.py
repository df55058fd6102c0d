"""What `validate` says of rotations and angles."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).parent))
from recording_warnings import QUATERNION, moving, turning, warnings_of

RNG = np.random.default_rng(0)


def test_quaternions_of_length_one_that_keep_their_sign_are_sound(tmp_path):
    episode = {"pose": turning(), "action": moving()}
    assert warnings_of(tmp_path / "a", episode, features=QUATERNION) == []


def test_a_quaternion_that_changes_its_sign_is_a_warning_with_the_frame(tmp_path):
    flipped = turning()
    flipped[30:45] *= -1
    first = {"pose": turning(), "action": moving()}
    (message,) = warnings_of(tmp_path / "a", first, {**first, "pose": flipped}, features=QUATERNION)
    assert message.startswith(
        "pose: the quaternion in columns 0 to 3 changes its sign 2 times, first at frame 90 "
        "(episode 1, its frame 30)"
    )
    assert "quaternion_to_6d" in message


def test_a_quaternion_that_is_known_by_its_key_only_is_looked_at_too(tmp_path):
    flipped = turning()
    flipped[30:] *= -1
    (message,) = warnings_of(tmp_path / "a", {"eef_quat": flipped, "action": moving()})
    assert message.startswith("eef_quat: the quaternion in columns 0 to 3 changes its sign once")


def test_a_quaternion_of_another_length_is_a_warning(tmp_path):
    long = turning()
    long[40:42] *= 1.5
    episode = {"pose": long, "action": moving()}
    (message,) = warnings_of(tmp_path / "a", episode, features=QUATERNION)
    assert "has length 1.5 in frame 40 (episode 0, its frame 40), and not 1 in 2 frames" in message


def half_turns(n=60):
    """Rotation vectors of a hand near half a turn about a tilted axis: twice past it."""
    angle = np.pi + 0.3 * np.sin(np.arange(n) * 2 * np.pi / 50 + 0.05)
    axis = np.array([2.0, 1.0, -2.0]) / 3
    return Rotation.from_rotvec(angle[:, None] * axis).as_rotvec()


@pytest.mark.parametrize("units", ["rad", "deg", ""])
def test_a_rotation_vector_that_flips_is_a_warning_with_the_frame(tmp_path, units):
    vectors = half_turns() if units != "deg" else np.rad2deg(half_turns())
    state = np.concatenate([moving(), vectors], 1)
    names = ["x", "y", *(f"rotvec_{axis}" for axis in "xyz")]
    features = {"state": {"names": names, "units": ["mm", "mm", units, units, units]}}
    first = {"state": np.concatenate([moving(), 0 * vectors], 1), "action": moving(seed=3)}
    (message,) = warnings_of(tmp_path / "a", first, {**first, "state": state}, features=features)
    jump = 1 + int(np.flatnonzero(np.linalg.norm(np.diff(half_turns(), axis=0), axis=1) > 3)[0])
    assert message.startswith(
        "state: the rotation vector in columns 2 to 4 flips at half a turn 2 times, first at "
        f"frame {60 + jump} (episode 1, its frame {jump})"
    )
    assert "rotation_vector_to_6d" in message


def test_three_columns_that_flip_as_a_rotation_vector_does_may_be_one(tmp_path):
    state = np.concatenate([moving(), half_turns()], 1)
    (message,) = warnings_of(tmp_path / "a", {"state": state, "action": moving(seed=3)})
    assert message.startswith(
        "state: what may be a rotation vector in columns 2 to 4 flips at half a turn 2 times"
    )


def test_a_rotation_vector_about_one_axis_is_no_angle_that_wraps(tmp_path):
    turned = half_turns()
    angle = np.sign(turned[:, 0]) * np.linalg.norm(turned, axis=1)
    wobble = 0.02 * moving(seed=1) / 100
    vectors = np.concatenate([angle[:, None], wobble], 1)
    episode = {"eef_axis_angle": vectors, "action": moving()}
    (message,) = warnings_of(tmp_path / "a", episode, features={"eef_axis_angle": {"units": "rad"}})
    assert message.startswith("eef_axis_angle: the rotation vector in columns 0 to 2 flips")


def test_rotation_vectors_that_turn_on_are_sound(tmp_path):
    axis = np.array([2.0, 1.0, -2.0]) / 3
    for number, most in enumerate((3.1, 9.0)):  # also those that count on beyond half a turn
        vectors = np.linspace(0, most, 60)[:, None] * axis
        episode = {"rotvec": vectors, "action": moving()}
        assert warnings_of(tmp_path / str(number), episode) == []


def test_a_matrix_that_is_no_rotation_is_a_warning(tmp_path):
    matrices = Rotation.from_quat(turning()).as_matrix() + 1e-4 * RNG.normal(size=(60, 3, 3))
    good = {"ee_rot": matrices, "action": moving()}
    assert warnings_of(tmp_path / "a", good) == []
    matrices[7, 0] *= 2
    (message,) = warnings_of(tmp_path / "b", good)
    assert "ee_rot: no rotation in 1 frame, first in frame 7" in message


@pytest.mark.parametrize(
    ("unit", "turn", "wraps"),
    [("rad", 2 * math.pi, True), ("deg", 360.0, True), ("", 2 * math.pi, True), ("", 360.0, True),
     ("m", 2 * math.pi, False), ("rad/s", 2 * math.pi, False)],
)  # fmt: skip
def test_an_angle_that_wraps_is_a_warning_where_the_column_is_an_angle(tmp_path, unit, turn, wraps):
    angle = (np.arange(60) * turn / 40 + turn / 2) % turn
    state = np.column_stack([moving()[:, 0], angle])
    features = {"state": {"units": ["mm", unit]}} if unit else None
    found = warnings_of(tmp_path / "a", {"state": state, "action": moving(seed=3)},
                        features=features)  # fmt: skip
    assert len(found) == wraps
    if wraps:
        assert found[0].startswith("state: dimension 1 jumps by ")
        assert "about a full turn, once, first at frame 20" in found[0]
        assert "angle_to_sin_cos" in found[0]


def test_a_column_of_another_range_that_jumps_by_six_is_no_angle(tmp_path):
    state = moving(60, 1)
    state[30:] += 6.28
    assert warnings_of(tmp_path / "a", {"state": state, "action": moving(seed=3)}) == []
