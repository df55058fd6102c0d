"""Rotations in the command filter: how they speed up, brake and reverse."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dipole.data.transforms.rotation import angle
from dipole.deploy import ActionGroup, Limits

sys.path.insert(0, str(Path(__file__).parent / "support"))
from filtered_groups import DT, POSE, filter_of, turned


def spins(references):
    """Angular velocities about z, rad/s, on the way from no rotation."""
    command_filter = filter_of(POSE, turned(0.0))
    quaternions = [turned(0.0)[3:]]
    quaternions += [command_filter.step(reference).values[3:] for reference in references]
    rotations = Rotation.from_quat(np.stack(quaternions))
    return (rotations[1:] * rotations[:-1].inv()).as_rotvec()[:, 2] / DT


def test_a_rotation_speeds_up_brakes_and_reverses_within_its_limits():
    found = spins([turned(120)] * 12 + [turned(-60)] * 25 + [None] * 10)
    assert found.max() == pytest.approx(1.0)
    assert found.min() == pytest.approx(-1.0)
    assert np.abs(np.diff(found, prepend=0.0)).max() <= 0.2 + 1e-9
    assert found[-1] == 0.0


def test_a_rotation_goes_the_short_way_whatever_the_signs_of_its_quaternions():
    found = spins([turned(100, sign=(-1.0) ** k) for k in range(40)])
    assert found.min() >= 0.0
    assert np.abs(np.diff(found, prepend=0.0)).max() <= 0.2 + 1e-9


def test_a_tiny_acceleration_of_a_rotation_is_kept_to_the_last_command():
    limits = Limits((-1.0,) * 7, (1.0,) * 7, (0.01,) * 7, (1e-4,) * 7)
    group = ActionGroup("tool", "pose", POSE.names, "m", measured_by="tool",
                        rotation="quaternion_xyzw", limits=limits)  # fmt: skip
    command_filter = filter_of(group, turned(0.0), dt=0.001)
    goal = turned(np.degrees(2e-9))
    quaternions = [command_filter.step(goal).values[3:] for _ in range(20)]
    rotations = Rotation.from_quat(np.stack([turned(0.0)[3:], *quaternions]))
    spin = (rotations[1:] * rotations[:-1].inv()).as_rotvec()[:, 2] / 0.001
    assert np.abs(np.diff(spin, prepend=0.0)).max() <= 1e-7 * 1.001


@pytest.mark.parametrize("numbers", [[0.0] * 4, [1e-9] * 4, [1e308] * 4])
def test_what_is_no_rotation_brakes(numbers):
    command_filter = filter_of(POSE, turned(0.0))
    for _ in range(3):
        command_filter.step(turned(120))
    for _ in range(5):
        command = command_filter.step(np.array([0.0, 0, 0, *numbers]))
    assert command_filter.at_rest
    assert np.linalg.norm(command.values[3:]) == pytest.approx(1.0)


def test_the_angle_helper_agrees_with_scipy():
    assert angle(turned(0)[3:], turned(50)[3:]) == pytest.approx(np.radians(50))
