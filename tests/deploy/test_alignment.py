"""Readings of several sensors at one time, each with its own latency."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from dipole.data.core.errors import ConfigError
from dipole.data.transforms.rotation import MATRIX, SIX, SIX_COLUMNS, SIZES, VECTOR, WXYZ, XYZW
from dipole.deploy import Channel, ControlLoop, LoopConfig, Reading, VirtualClock
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.observations.buffer import ObservationBuffer
from dipole.deploy.observations.channel_buffer import KEPT, ChannelBuffer
from dipole.deploy.recording.recorder import FlightRecorder
from dipole.deploy.recording.replay import replay
from dipole.deploy.robots.fit import mismatches
from dipole.deploy.robots.groups import ActionGroup, ActionSpec
from dipole.deploy.robots.robot import RobotSpec
from dipole.deploy.types import Meaning, PolicySpec

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import WINDOW, VirtualRobot, counting, run, spec

CHANNELS = {"camera": Channel((2, 2, 3), "uint8"), "joints": Channel((2,))}
POLICY = PolicySpec({"camera": (2, 2, 3), "joints": (2,)}, 2, WINDOW)


def seen(time, camera_time=None, level=0, joints=(0.0, 0.0)):
    values = {"camera": np.full((2, 2, 3), level, np.uint8), "joints": np.float32(joints)}
    return Reading(time, values, {} if camera_time is None else {"camera": camera_time})


def read(channel, *pairs):
    """A buffer of one channel that has read these (time, value)."""
    buffer = ChannelBuffer("x", channel)
    for time, value in pairs:
        assert buffer.take(Reading(time, {"x": np.asarray(value)}), now=time) == ""
    return buffer


def test_joints_are_brought_to_the_cameras_time():
    observations = ObservationBuffer(POLICY, align_to="camera", channels=CHANNELS)
    observations.update(seen(1.0, camera_time=0.9, joints=(10, 0)), now=1.0)
    observations.update(seen(1.1, camera_time=1.025, level=7, joints=(20, 4)), now=1.1)
    assert observations.latest.values["joints"].tolist() == [12.5, 1.0]
    assert observations.latest.values["camera"].max() == 7
    assert observations.age(1.1) == pytest.approx(0.075)
    assert observations.newest["joints"].tolist() == [20, 4]  # where the robot is now


def test_without_a_reference_the_newest_of_each_is_used_and_the_oldest_counts():
    observations = ObservationBuffer(POLICY)
    observations.update(seen(1.0, camera_time=0.9, joints=(10, 0)), now=1.0)
    observations.update(seen(1.1, camera_time=1.025, joints=(20, 4)), now=1.1)
    assert observations.latest.values["joints"].tolist() == [20, 4]
    assert observations.age(1.1) == pytest.approx(0.075)


def test_each_device_has_its_own_latency():
    latency = {"camera": 0.05}
    observations = ObservationBuffer(POLICY, latency, align_to="camera", channels=CHANNELS)
    observations.update(seen(1.0, joints=(10, 0)), now=1.0)
    observations.update(seen(1.1, joints=(20, 4)), now=1.1)  # the picture is of 1.05
    assert observations.latest.values["joints"].tolist() == pytest.approx([15, 2])
    assert observations.age(1.1) == pytest.approx(0.05)


def test_nothing_is_extrapolated():
    buffer = read(Channel((1,)), (1.0, np.float32([1])), (2.0, np.float32([2])))
    assert [float(buffer.at(time)[0]) for time in (0.0, 1.5, 3.0)] == [1.0, 1.5, 2.0]


def test_of_pictures_the_nearest_is_used():
    for dtype in ("uint8", "float32"):
        pictures = [(time, np.full((2, 2, 3), level, dtype)) for time, level in ((0, 10), (1, 20))]
        buffer = read(Channel((2, 2, 3), dtype), *pictures)
        assert [int(buffer.at(time).max()) for time in (0.4, 0.6)] == [10, 20]


def test_a_reading_that_is_not_new_changes_nothing_and_memory_is_bounded():
    buffer = read(Channel((1,)), (1.0, [1.0]), (1.0, [5.0]))
    assert buffer.newest.tolist() == [1.0]
    for time in range(2, 100):
        buffer.take(Reading(time, {"x": np.float32([time])}), now=time)
    assert len(buffer._seen) == KEPT


def test_what_lies_before_the_references_time_is_not_kept():
    observations = ObservationBuffer(POLICY, align_to="camera", channels=CHANNELS)
    for tick in range(10):
        now = 1.0 + tick / 10
        observations.update(seen(now, camera_time=now - 0.05, joints=(tick, 0)), now)
    kept = {name: len(buffer._seen) for name, buffer in observations._channels.items()}
    assert kept == {"camera": 1, "joints": 2}


# Angles and rotations -----------------------------------------------------------------------------

UNIT = st.floats(-1, 1).filter(lambda x: abs(x) > 1e-3)
TURNS = st.tuples(UNIT, UNIT, UNIT, UNIT).map(Rotation.from_quat)
WRITTEN = {
    XYZW: lambda r: r.as_quat(),
    WXYZ: lambda r: r.as_quat()[[3, 0, 1, 2]],
    VECTOR: lambda r: r.as_rotvec(),
    SIX: lambda r: r.as_matrix()[:2].ravel(),
    SIX_COLUMNS: lambda r: r.as_matrix()[:, :2].T.ravel(),
    MATRIX: lambda r: r.as_matrix().ravel(),
}


def rotation_of(values, written):
    if written == XYZW:
        return Rotation.from_quat(values)
    if written == WXYZ:
        return Rotation.from_quat(values[[1, 2, 3, 0]])
    if written == VECTOR:
        return Rotation.from_rotvec(values)
    first, second = values[:3], values[3:6]
    matrix = np.stack([first, second, np.cross(first, second)])
    return Rotation.from_matrix(matrix.T if written == SIX_COLUMNS else matrix)


@pytest.mark.parametrize("written", SIZES)
@settings(deadline=None)
@given(a=TURNS, b=TURNS, t=st.floats(0, 1), opposite=st.booleans())
def test_rotations_are_between_where_scipy_puts_them(written, a, b, t, opposite):
    assume((b * a.inv()).magnitude() < np.pi - 1e-3)  # else both ways are as short
    ends = [WRITTEN[written](each) for each in (a, b)]
    if opposite and written in (XYZW, WXYZ):
        ends[1] = -ends[1]
    channel = Channel((1 + SIZES[written],), "float64", rotations=((1, written),))
    buffer = read(channel, (0.0, [0.0, *ends[0]]), (1.0, [4.0, *ends[1]]))
    found = buffer.at(t)
    right = Slerp([0, 1], Rotation.concatenate([a, b]))(t)
    assert found[0] == pytest.approx(4 * t)
    assert (rotation_of(found[1:], written) * right.inv()).magnitude() < 1e-6


def test_quaternions_of_opposite_signs_are_one_rotation_and_keep_their_length():
    channel = Channel((5,), quaternions=(1,))
    turned = [4, -np.sin(0.8), 0, 0, -np.cos(0.8)]  # by 1.6 rad, the other sign
    buffer = read(channel, (0.0, np.float32([0, 0, 0, 0, 1])), (1.0, np.float32(turned)))
    value = buffer.at(0.25)
    assert value.dtype == np.float32
    assert value.tolist() == pytest.approx([1, np.sin(0.2), 0, 0, np.cos(0.2)], abs=1e-6)


def test_each_row_of_a_reading_has_its_rotation():
    channel = Channel((2, 4), "float64", quaternions=(0,))
    start = [[0, 0, 0, 1], [0, 0, 0, 1]]
    end = [[np.sin(0.5), 0, 0, np.cos(0.5)], [0, 0, np.sin(0.2), np.cos(0.2)]]
    middle = read(channel, (0.0, np.float64(start)), (1.0, end)).at(0.5)
    assert middle[0].tolist() == pytest.approx([np.sin(0.25), 0, 0, np.cos(0.25)])
    assert middle[1].tolist() == pytest.approx([0, 0, np.sin(0.1), np.cos(0.1)])


@pytest.mark.parametrize(
    ("unit", "a", "b", "between"),
    [
        ("rad", 3.1, -3.1, np.pi),
        ("rad", 3.0, -3.1, 3.0 + (2 * np.pi - 6.1) / 2),
        ("rad", -3.0, 3.1, -3.0 - (2 * np.pi - 6.1) / 2),
        ("rad", 0.3, 6.2, (6.5 - 2 * np.pi) / 2),
        ("deg", 350.0, 20.0, 5.0),
        ("deg", -170.0, 160.0, 175.0),
        ("deg", 1000.0, 1010.0, 1005.0),
        ("deg", 1000.0, 650.0, 645.0),  # a counter of turns that lost one
        ("rad", 1.0, 2.0, 1.5),
    ],
)
def test_angles_go_the_short_way_and_stay_in_their_range(unit, a, b, between):
    channel = Channel((2,), "float64", unit=unit, continuous=(0,))
    value = read(channel, (0.0, [a, a]), (1.0, [b, b])).at(0.5)
    assert abs(value[0]) == pytest.approx(abs(between), abs=1e-6)
    assert value[1] == pytest.approx((a + b) / 2)  # it is not continuous


@given(a=st.floats(-np.pi, np.pi), b=st.floats(-np.pi, np.pi), t=st.floats(0, 1))
def test_an_angle_between_is_on_the_short_arc(a, b, t):
    channel = Channel((1,), "float64", unit="rad", continuous=(0,))
    found = read(channel, (0.0, [a]), (1.0, [b])).at(t)[0]
    way = (b - a + np.pi) % (2 * np.pi) - np.pi
    off = (found - a - t * way + np.pi) % (2 * np.pi) - np.pi
    if abs(abs(b - a) - np.pi) > 1e-6:  # else both ways are as short
        assert abs(off) < 1e-9
    assert -np.pi <= found <= np.pi


def test_what_a_group_declares_of_its_measurement_is_known_of_the_channel():
    """A wrist that turns without end; a hand's rotation in the last columns of its channel."""
    wrist = ActionGroup(
        "wrist", "joint_position", ("w",), "rad", "joints", (1,), continuous=("w",)
    )  # fmt: skip
    hand = ActionGroup(
        "hand", "pose", ("x", "a", "b", "c"), "m", "hand", (0, 2, 3, 4), rotation=VECTOR
    )  # fmt: skip
    channels = {"joints": Channel((2,), "float64"), "hand": Channel((5,), "float64")}
    spec = PolicySpec({"joints": (2,), "hand": (5,)}, 5, WINDOW)
    observations = ObservationBuffer(
        spec, align_to="joints", channels=channels, groups=ActionSpec.of(wrist, hand).groups
    )

    def look(now, joints, hand, joints_time):
        values = {"joints": np.array(joints), "hand": np.array(hand)}
        observations.update(Reading(now, values, {"joints": joints_time}), now)

    look(1.0, [3.1, 3.1], [0.0, 5.0, 3.1, 0.0, 0.0], 0.9)
    look(1.1, [-3.1, -3.1], [1.0, 6.0, -3.1, 0.0, 0.0], 1.05)
    hand = observations.latest.values["hand"]
    assert hand.tolist() == pytest.approx([0.5, 5.5, np.pi, 0.0, 0.0])
    look(1.2, [0.0, 0.0], [1.0, 6.0, np.nan, 0.0, 0.0], 1.15)
    assert observations.refused == {"hand is not finite": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quaternions": (3,)}, "quaternion at 3 does not fit"),
        ({"rotations": ((1, "rotation_6d"),)}, "rotation_6d at 1 does not fit"),
        ({"rotations": ((0, "euler"),)}, "rotations has 'euler'; it is one of quaternion_xyzw,"),
        ({"rotations": ((0, VECTOR), (2, VECTOR))}, "rotation_vector at 2 overlaps"),
        ({"continuous": (6,), "unit": "rad"}, "continuous has 6, which does not fit"),
        ({"continuous": (1,)}, "continuous has 1, whose unit is ''"),
        ({"continuous": (1,), "unit": "m, m, m, m, m, rad"}, "continuous has 1, whose unit is 'm'"),
        ({"continuous": (1,), "unit": "rad", "quaternions": (0,)}, "is a number of a rotation"),
        ({"dtype": "rgb8"}, "dtype is 'rgb8': as numpy's"),
        ({"unit": "m, rad"}, r"units 'm, rad' for a reading of shape \(6,\)"),
    ],
)
def test_a_channel_that_does_not_fit_together_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Channel((6,), **options)


def test_units_of_a_channel_may_differ():
    channel = Channel((3,), unit="m, m, rad", continuous=(2,))
    assert channel.units == ("m", "m", "rad")
    assert Channel((3,), unit="rad").units == "rad"
    robot = RobotSpec({"x": channel}, ActionSpec(("v",), kind="joint_velocity"))
    for units, differ in ((("m", "m", "rad"), 0), (("m", "m", "deg"), 1)):
        policy = PolicySpec({"x": (3,)}, 1, WINDOW, meaning={"x": Meaning(units=units)})
        assert len(list(mismatches(robot, policy))) == differ


def test_a_sensor_whose_time_goes_back_keeps_its_last_reading_and_the_others_go_on():
    observations = ObservationBuffer(POLICY)
    observations.update(seen(1.0, camera_time=0.95), now=1.0)
    observations.update(seen(1.1, camera_time=0.90, level=9, joints=(5, 5)), now=1.1)
    assert observations.refused == {"camera went back in time": 1}
    assert observations.age(1.2) == pytest.approx(0.25)
    assert observations.latest.values["camera"].max() == 0
    assert observations.latest.values["joints"].tolist() == [5, 5]


def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="align_to is 'cam'; the policy observes camera, joints"):
        ObservationBuffer(POLICY, align_to="cam", channels=CHANNELS)
    with pytest.raises(ConfigError, match="sensor_latency names 'cam'; the robot has camera"):
        ObservationBuffer(POLICY, {"cam": 0.1}, channels=CHANNELS)
    with pytest.raises(ConfigError, match=r"sensor_latency is \{'camera': -1.0\}"):
        LoopConfig(sensor_latency={"camera": -1.0})
    with pytest.raises(ConfigError, match="max_observation_age names 'cam'; the robot has camera"):
        ObservationBuffer(POLICY, max_age={"cam": 0.1}, channels=CHANNELS)


def test_an_aligned_run_is_replayed_to_the_last_bit(tmp_path):
    """The camera is 80 ms late; the chunk depends on where the joints were at its time."""
    clock, shown = VirtualClock(start=10.0), []

    def look(reading):
        values = reading.values | {"y": np.float32([clock.now()])}
        return Reading(reading.time, values, {"x": reading.time - 0.08})

    robot = VirtualRobot(clock, look=look)
    robot.spec = RobotSpec(
        {"x": Channel((2,)), "y": Channel((1,))}, spec().action, spec().limits
    )  # fmt: skip

    def compute(ticket, observation):
        shown.append(float(observation["y"][-1, 0]))
        answer = counting()(ticket, observation)["action"]
        return {"action": answer + observation["y"][-1, 0]}

    config = LoopConfig(control_hz=10.0, align_to="x", max_limited=None, max_approach=None)
    policy = PolicySpec({"x": (2,), "y": (1,)}, 2, WINDOW)
    kept = FlightRecorder(tmp_path / "flight.rec", robot.spec, config)
    inference = VirtualInference(policy, compute, clock, 0.2)
    loop = ControlLoop(robot, inference, config, clock=clock, log=lambda line: None, recorder=kept)
    run(loop, 5.0)
    kept.close()
    assert shown[1:] == pytest.approx([round(t, 1) + 0.02 for t in shown[1:]], abs=1e-3)
    decisions = list(replay(tmp_path / "flight.rec"))
    assert len(decisions) > 40
    assert all(decision.same for decision in decisions)
