"""Readings of several sensors at one time, each with its own latency."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.data.errors import ConfigError
from dipole.deploy import Channel, ControlLoop, LoopConfig, Reading, VirtualClock
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.observations.buffer import ObservationBuffer
from dipole.deploy.observations.time_alignment import KEPT, SensorHistory
from dipole.deploy.recording.recorder import FlightRecorder
from dipole.deploy.recording.replay import replay
from dipole.deploy.robots.robot import RobotSpec
from dipole.deploy.robots.rotation import angle
from dipole.deploy.types import PolicySpec

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import WINDOW, VirtualRobot, counting, run, spec

CHANNELS = {"camera": Channel((2, 2, 3), "uint8"), "joints": Channel((2,))}
POLICY = PolicySpec({"camera": (2, 2, 3), "joints": (2,)}, 2, WINDOW)


def seen(time, camera_time=None, level=0, joints=(0.0, 0.0)):
    values = {"camera": np.full((2, 2, 3), level, np.uint8), "joints": np.float32(joints)}
    return Reading(time, values, {} if camera_time is None else {"camera": camera_time})


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
    history = SensorHistory(Channel((1,)))
    for time in (1.0, 2.0):
        history.add(time, np.float32([time]))
    assert [float(history.at(time)[0]) for time in (0.0, 1.5, 3.0)] == [1.0, 1.5, 2.0]


def test_quaternions_turn_along_the_arc_and_keep_their_length():
    history = SensorHistory(Channel((5,), quaternions=(1,)))
    history.add(0.0, np.float32([0, 1, 0, 0, 0]))
    history.add(1.0, np.float32([4, -np.cos(0.8), 0, 0, -np.sin(0.8)]))  # 1.6 rad, the other sign
    value = history.at(0.25)
    assert value.dtype == np.float32
    assert value[0] == pytest.approx(1.0)
    assert np.linalg.norm(value[1:]) == pytest.approx(1.0, abs=1e-6)
    assert angle(np.array([1.0, 0, 0, 0]), value[1:]) == pytest.approx(0.4, abs=1e-3)


def test_of_pictures_the_nearest_is_used():
    history = SensorHistory(CHANNELS["camera"])
    for time, level in ((0.0, 10), (1.0, 20)):
        history.add(time, np.full((2, 2, 3), level, np.uint8))
    assert [int(history.at(time).max()) for time in (0.4, 0.6)] == [10, 20]


def test_a_reading_that_is_not_new_changes_nothing_and_memory_is_bounded():
    history = SensorHistory(Channel((1,)))
    for time in (1.0, 1.0, 0.5):
        history.add(time, np.float32([time]))
    assert len(history._seen) == 1
    for time in range(2, 100):
        history.add(time, np.float32([time]))
    assert len(history._seen) == KEPT


def test_one_sensor_whose_time_goes_backwards_is_enough_to_refuse():
    observations = ObservationBuffer(POLICY)
    observations.update(seen(1.0, camera_time=0.95), now=1.0)
    observations.update(seen(1.1, camera_time=0.90), now=1.1)
    assert observations.refused == {"time went backwards": 1}
    assert observations.age(1.2) == pytest.approx(0.25)


def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="align_to is 'cam'; the policy observes camera, joints"):
        ObservationBuffer(POLICY, align_to="cam", channels=CHANNELS)
    with pytest.raises(ConfigError, match="sensor_latency names 'cam'; the robot has camera"):
        ObservationBuffer(POLICY, {"cam": 0.1}, channels=CHANNELS)
    with pytest.raises(ConfigError, match=r"sensor_latency is \{'camera': -1.0\}"):
        LoopConfig(sensor_latency={"camera": -1.0})
    with pytest.raises(ConfigError, match="quaternion at 3 does not fit"):
        Channel((6,), quaternions=(3,))


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
