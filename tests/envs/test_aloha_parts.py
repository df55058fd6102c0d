"""ALOHA without physics: orders of numbers, start poses, stages, and poses of hands."""

import numpy as np
import pytest

from dipole.envs.aloha.expert.grasps import HALF, LOWEST, QUARTER, facing, from_above, yaw_of
from dipole.envs.aloha.expert.pose import Pose, rotation_of, rotation_vector
from dipole.envs.aloha.joints import NAMES, START, from_mujoco, to_mujoco
from dipole.envs.aloha.tasks import TASKS


def touching(*pairs):
    return lambda one, other: (one, other) in pairs or (other, one) in pairs


def test_an_action_has_the_order_of_the_public_datasets():
    assert NAMES[5:8] == ("left_wrist_rotate", "left_gripper", "right_waist")
    state = from_mujoco(START)
    np.testing.assert_allclose(state[:6], [0, -0.96, 1.16, 0, -0.3, 0])
    np.testing.assert_allclose(state[[6, 13]], 0.0999, atol=1e-3)
    np.testing.assert_allclose(to_mujoco(state), START)


def test_an_open_gripper_is_one():
    control = to_mujoco(np.array([0.0] * 6 + [1.0] + [0.0] * 7))
    np.testing.assert_allclose(control[[6, 7, 14, 15]], [0.058, -0.058, 0.01844, -0.01844])


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_objects_start_in_their_ranges_by_the_seed_alone(task):
    starts = np.array([task.start(seed) for seed in range(50)]).reshape(50, -1, 7)
    assert (starts[..., :2] >= task.low).all()
    assert (starts[..., :2] <= task.high).all()
    assert len(np.unique(starts[:, 0, 0])) == 50
    np.testing.assert_array_equal(task.start(7), starts[7].ravel())


@pytest.mark.parametrize(
    ("pairs", "reward", "stage"),
    [
        ([], 0, None),
        ([("cube", "right"), ("cube", "table")], 1, "touched"),
        ([("cube", "right")], 2, "lifted"),
        ([("cube", "left"), ("cube", "table")], 3, "met"),
        ([("cube", "left"), ("cube", "right")], 4, "transferred"),
        ([("cube", "left")], 4, "released"),
    ],
)
def test_stages_of_a_transfer(pairs, reward, stage):
    found, stages = TASKS["transfer_cube"].judge(touching(*pairs))
    assert found == reward
    assert stage is None or stages[stage]
    assert stages["released"] == (stage == "released")


@pytest.mark.parametrize(
    ("pairs", "reward"),
    [
        ([("socket", "left"), ("peg", "table")], 0),
        ([("socket", "left"), ("peg", "right"), ("peg", "table")], 1),
        ([("socket", "left"), ("peg", "right")], 2),
        ([("peg", "socket")], 3),
        ([("peg", "pin"), ("peg", "table")], 4),
    ],
)
def test_stages_of_an_insertion(pairs, reward):
    assert TASKS["insertion"].judge(touching(*pairs))[0] == reward


def test_poses_compose_and_invert():
    turn = rotation_of(np.array([0.3, -0.2, 1.1]))
    pose = Pose(np.array([0.1, 0.2, 0.3]), turn)
    np.testing.assert_allclose(rotation_vector(turn), [0.3, -0.2, 1.1])
    same = pose @ pose.inverse
    np.testing.assert_allclose(same.position, 0, atol=1e-12)
    np.testing.assert_allclose(same.rotation, np.eye(3), atol=1e-12)
    half = Pose.identity().towards(pose, 0.5)
    np.testing.assert_allclose(half.position, [0.05, 0.1, 0.15])
    np.testing.assert_allclose(rotation_vector(half.rotation), [0.15, -0.1, 0.55])


def test_a_quaternion_is_read_as_mujoco_writes_it():
    quarter = Pose.read(np.array([1, 2, 3, np.sqrt(0.5), 0, 0, np.sqrt(0.5)]))
    np.testing.assert_allclose(quarter.position, [1, 2, 3])
    np.testing.assert_allclose(rotation_vector(quarter.rotation), [0, 0, np.pi / 2])


def test_a_hand_grasps_across_what_lies_there():
    turned = Pose(np.array([0.1, 0.5, 0.01]), rotation_of(np.array([0, 0, 0.2])))
    assert yaw_of(turned, QUARTER) == pytest.approx(0.2)
    hand = from_above("right", turned, pitch=1.0, turn=HALF)
    np.testing.assert_allclose(hand.position, [0.1, 0.5, LOWEST])
    assert hand.rotation[:, 1] @ turned.rotation[:, 0] == pytest.approx(0)  # fingers across it
    assert hand.rotation[2, 0] == pytest.approx(-np.sin(1.0))


def test_a_cube_turned_by_a_quarter_looks_the_same():
    turned = Pose(np.zeros(3), rotation_of(np.array([0, 0, np.pi / 2 + 0.1])))
    assert yaw_of(turned, QUARTER) == pytest.approx(0.1)
    np.testing.assert_allclose(facing("left", 0.0)[:, 0], [1, 0, 0], atol=1e-12)
