"""Sensors that are read in threads of their own; what their drivers do is decided by the test."""

import queue
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dipole.data import WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.deploy import ControlLoop, LoopConfig, Polled, newest_reading
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.robots.registry import import_robots, make_robot
from dipole.deploy.types import PolicySpec

PATIENCE = 20.0  # seconds within which a busy machine gets round to a thread


class Driver:
    """Its read waits until the test gives something: a value, or an exception to raise."""

    def __init__(self):
        self.given, self.reads = queue.Queue(), 0

    def give(self, value):
        self.given.put(value)

    def read(self):
        self.reads += 1
        value = self.given.get()
        if isinstance(value, Exception):
            raise value
        return value


def await_(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


@pytest.fixture
def driver():
    driver = Driver()
    yield driver
    for _ in range(9):
        driver.give(None)  # whoever still reads ends


@pytest.fixture
def polled(driver):
    sensor = Polled(driver.read, 1000.0, name="camera")
    yield sensor
    driver.give(None)
    sensor.close(PATIENCE)


def test_looking_never_waits_for_a_read(driver, polled):
    assert polled.newest is None  # and the read blocks
    reading = newest_reading(polled)
    assert reading is None or reading.problems == {"camera": "its read does not return"}
    value = np.ones((4, 4))
    before = time.monotonic()
    driver.give(value)
    await_(lambda: polled.newest is not None)
    reading = newest_reading(polled)
    assert reading.values["camera"] is value
    assert reading.immutable
    assert before <= reading.times["camera"] <= time.monotonic()


def test_a_driver_that_knows_when_it_captured_is_believed(driver, polled):
    driver.give((3.5, np.zeros(2)))
    await_(lambda: polled.newest is not None)
    assert newest_reading(polled).times == {"camera": 3.5}


def test_nothing_new_leaves_the_last_value(driver, polled):
    driver.give((3.5, np.zeros(2)))
    driver.give(None)
    driver.give((3.5, np.ones(2)))
    await_(lambda: driver.reads == 4)
    assert polled.newest.value.tolist() == [0, 0]


def test_an_exception_is_told_and_the_sensor_read_again(driver, polled):
    driver.give(OSError("the cable is out"))
    await_(lambda: polled.error)
    reading = newest_reading(polled)
    assert reading.values == {}
    assert reading.problems == {"camera": "OSError: the cable is out"}
    assert isinstance(polled.error, OSError)
    driver.give((1.0, np.zeros(2)))
    await_(lambda: polled.newest is not None and polled.error is None)
    driver.give(OSError("again"))
    await_(lambda: polled.error)
    reading = newest_reading(polled)
    assert reading.times == {"camera": 1.0}  # it ages
    assert reading.problems == {"camera": "OSError: again"}


def test_a_read_that_does_not_return_is_told(driver, polled):
    await_(lambda: polled.problem == "its read does not return")
    driver.give(np.zeros(1))
    await_(lambda: polled.newest is not None)


def test_a_driver_that_writes_into_the_same_memory_is_copied_once_that_is_seen(driver, polled):
    memory = [np.zeros(4), np.zeros(4)]  # two buffers, in turns
    for number in range(1, 6):
        memory[number % 2][:] = number
        driver.give((float(number), memory[number % 2]))
        await_(lambda number=number: polled.newest and polled.newest.time == number)
    kept = polled.newest
    memory[1][:] = 99
    assert kept.value.tolist() == [5] * 4


def test_with_copy_every_value_is_copied(driver):
    memory = np.ones(4)
    sensor = Polled(driver.read, 1000.0, name="camera", copy=True)
    driver.give(memory)
    await_(lambda: sensor.newest is not None)
    memory[:] = 2
    assert sensor.newest.value.tolist() == [1] * 4
    driver.give(None)
    assert sensor.close(PATIENCE)


def test_closing_ends_the_thread_and_says_where_a_read_keeps_it(driver):
    sensor = Polled(driver.read, 1000.0, name="camera")
    assert sensor.close(timeout=0.01) is False  # the read blocks
    driver.give(np.zeros(1))
    assert sensor.close(PATIENCE) is True
    reads = driver.reads
    driver.give(np.zeros(1))
    assert driver.reads == reads
    assert all(thread.name != "dipole-camera" for thread in threading.enumerate())


def test_a_read_that_returns_at_once_is_called_at_its_rate_and_no_faster():
    started, moments = time.monotonic(), []

    def read():
        moments.append(time.monotonic())
        return np.zeros(1)

    sensor = Polled(read, 50.0, name="joints")
    await_(lambda: len(moments) >= 5)
    sensor.close(PATIENCE)
    assert moments[4] - started >= 0.079  # four times 20 ms, or more on a busy machine


def test_several_sensors_are_one_reading_with_the_time_of_each():
    camera, joints = Driver(), Driver()
    sensors = [Polled(camera.read, 1000.0, name="camera"), Polled(joints.read, 1000.0, name="q")]
    camera.give((1.0, np.zeros((2, 2))))
    await_(lambda: sensors[0].newest is not None)
    reading = newest_reading(*sensors)  # the other has seen nothing yet
    assert reading is None or reading.problems == {"q": "its read does not return"}
    joints.give((2.0, np.ones(1)))
    await_(lambda: sensors[1].newest is not None)
    reading = newest_reading(*sensors)
    assert (reading.time, dict(reading.times)) == (1.0, {"camera": 1.0, "q": 2.0})
    for driver, sensor in zip((camera, joints), sensors, strict=True):
        driver.give(None)
        assert sensor.close(PATIENCE)


@pytest.mark.parametrize("hz", [0, -1.0, True, "30", float("nan"), float("inf")])
def test_a_rate_that_is_no_positive_number_is_refused(hz):
    with pytest.raises(ConfigError, match="hz of the sensor 'camera' is"):
        Polled(lambda: None, hz, name="camera")


def test_the_pages_robot_of_two_cameras_moves_by_polled_sensors(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
    path = tmp_path / "two_cameras.py"
    path.write_text(re.search(r'```python\n("""two_cameras.*?)```', page, re.DOTALL)[1])
    import_robots(path)
    robot, shown = make_robot("two_cameras"), []

    def turn(ticket, observation):
        shown.append({name: value.shape for name, value in observation.items()})
        steps = np.arange(16)[:, None] * [0.02, -0.02]
        return {"action": observation["joints"][-1] + steps}

    shapes = {name: channel.shape for name, channel in robot.spec.observation.items()}
    policy = PolicySpec(shapes, 2, WindowSpec(2, 16, 8))
    config = LoopConfig(
        align_to="front",
        max_observation_age={"front": PATIENCE, "wrist": PATIENCE, "joints": PATIENCE},
        max_action_lateness=PATIENCE,
        call_timeout=PATIENCE,
    )
    inference = ThreadInference(policy, turn)
    loop = ControlLoop(robot, inference, config, log=lambda line: None)
    loop.prepare()
    loop.arm()
    report = loop.run(2.0)
    loop.close()
    assert report.stopped is True
    assert report.counts["actions"] > 0
    assert not [name for name in report.counts if name.startswith("readings_")]
    assert robot.arm.positions[0] > 0.0
    assert robot.arm.positions[1] < 0.0
    assert shown[0] == {"front": (2, 480, 640, 3), "wrist": (2, 480, 640, 3), "joints": (2, 2)}
    assert all(sensor.close(PATIENCE) for sensor in robot.sensors)
