"""What a robot's author declares or returns in a wrong form is refused, and the right form said."""

import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy import (
    ActionGroup,
    ActionSpec,
    Channel,
    ControlLoop,
    Limits,
    LoopConfig,
    Polled,
    Reading,
    RealClock,
    VirtualClock,
)
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.loop.states import StateError
from dipole.deploy.safety.supervisor import RobotFault

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import SPEC_OF_X, VirtualRobot, make_loop, spec

# Declarations -------------------------------------------------------------------------------------


def test_lists_are_as_good_as_tuples():
    channel = Channel([2], names=["a", "b"], continuous=[0], unit="rad")
    assert channel == Channel((2,), names=("a", "b"), continuous=(0,), unit="rad")
    assert Channel([np.int64(7)], quaternions=[3], rotations=[[0, "rotation_vector"]]) == Channel(
        (7,), quaternions=(3,), rotations=((0, "rotation_vector"),)
    )
    assert Channel((2,), np.uint8).dtype == Channel((2,), np.dtype("u1")).dtype == "uint8"
    assert Channel((2,), np.float32) == Channel((2,), "<f4") == Channel((2,))
    limits = Limits([-1], np.array([1.0]), [1.0], [4.0])
    assert limits == Limits((-1.0,), (1.0,), (1.0,), (4.0,))
    group = {"name": "arm", "kind": "joint_position", "measured_by": "x", "unit": "rad"}
    assert ActionGroup(**group, names=["a"], columns=[1], continuous=["a"]) == ActionGroup(
        **group, names=("a",), columns=(1,), continuous=("a",)
    )
    valve = {"name": "v", "kind": "discrete", "rest": 0}
    assert ActionGroup(**valve, names=["v"], values=[0, 1]).values == (0, 1)
    assert ActionSpec(["a"], "rad", measured_by="x").groups[0].names == ("a",)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Channel(2), r"shape is 2: a tuple or a list is needed, as \(2,\)"),
        (lambda: Channel((2.5,)), r"shape is \(2\.5,\): whole numbers are needed"),
        (lambda: Channel((-1,)), r"shape is \(-1,\): no size is negative"),
        (lambda: Channel((2,), unit="rad m"), "several units have commas between them, 'rad, m'"),
        (lambda: Channel((2,), unit=["rad", "m"]), r"unit is \['rad', 'm'\]: a text is needed"),
        (lambda: Channel((1,), None), r"dtype is None: as numpy's, 'float32' or 'uint8'"),
        (lambda: Channel((1,), "str"), r"dtype is 'str', which holds no numbers"),
        (lambda: Channel((1,), names="x"), r"names is 'x': a tuple .* as \('x',\)"),
        (lambda: Channel((4,), quaternions=0), r"quaternions is 0: a tuple or a list"),
        (
            lambda: Channel((3,), rotations=((0,),)),
            r"rotations has \(0,\): .* as rotations=\(\(3, 'rot",
        ),
        (lambda: Channel((3,), rotations=(0, "rotation_vector")), "rotations has 0: "),
        (lambda: Channel((1,), unit="rad", continuous=0), "continuous is 0: a tuple or a list"),
        (lambda: Limits(-1.0, 1.0, 1.0, 4.0), r"limits\.low is -1\.0: a tuple .*, as \(-1\.0,\)"),
        (lambda: Limits("01", (1,), (1,), (1,)), r"limits\.low is '01': a tuple or a list"),
        (lambda: Limits(("a",), (1,), (1,), (1,)), r"limits\.low is \('a',\): numbers are needed"),
        (lambda: Limits((None,), (1,), (1,), (1,)), r"limits\.low is \(None,\)"),
        (lambda: ActionSpec("elbow", "rad", measured_by="x"), "names is 'elbow': a tuple"),
        (lambda: ActionGroup("arm", "twist", "vx"), "group 'arm': names is 'vx': a tuple"),
        (lambda: ActionGroup("a", "twist", ("vx",), columns=0), "'a': columns is 0: a tuple"),
    ],
)
def test_one_where_several_are_declared_is_refused_with_the_right_form(declare, message):
    with pytest.raises(ConfigError, match=message):
        declare()


# What observe() returns ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"x": np.zeros(2)}, r"observe\(\) returned a dict \(x\); a Reading is needed, as Reading"),
        (np.zeros(2), r"observe\(\) returned an array of shape \(2,\); a Reading is needed"),
        (0.5, r"observe\(\) returned 0\.5; a Reading"),
        (Reading(np.zeros(2), 0.0), r"observe\(\) returned a Reading whose values are 0\.0"),
        (SimpleNamespace(time=0.0), "a Reading is needed"),
    ],
)
def test_an_observation_of_another_kind_says_what_is_needed(returned, message):
    clock = VirtualClock()
    loop, _ = make_loop(robot=VirtualRobot(clock, look=lambda _: returned), clock=clock)
    with pytest.raises(RobotFault, match=message):
        loop.prepare()
    assert "AttributeError" not in loop.states.reason


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (lambda _: None, "no usable observation within 5 s: the robot gave none$"),
        (
            lambda reading: Reading(3.0, reading.values),
            r"the newest reading of x is 10\d\d\.\d\d s old, more than 0\.3 s\. A reading's "
            r"time is that of its capture on this computer's time\.monotonic\(\).*uptime",
        ),
        (
            lambda reading: Reading(1.7e9, reading.values),
            r"no reading of x \(x: is from the future\)\. A reading's time is",
        ),
        (
            lambda reading: Reading(reading.time, {"x": np.zeros(3)}),
            r"there is no reading of x \(x: has shape \[3\]\)$",
        ),
    ],
)
def test_what_keeps_observations_from_use_is_said(look, message):
    clock = VirtualClock(1000.0)
    loop, _ = make_loop(robot=VirtualRobot(clock, look=look), clock=clock)
    with pytest.raises(StateError, match=message):
        loop.prepare()


def test_an_observation_that_blocks_before_motion_is_a_fault():
    released, robot = threading.Event(), VirtualRobot(RealClock())
    robot.observe = released.wait
    nothing = ThreadInference(SPEC_OF_X, lambda _ticket, _seen: {"action": np.zeros((16, 2))})
    loop = ControlLoop(robot, nothing, LoopConfig(call_timeout=0.05), log=lambda line: None)
    with pytest.raises(
        RobotFault, match=r"observe\(\) has not returned for \d+\.\d\d s \(call_tim"
    ):
        loop.prepare()
    assert loop.states.state == "FAULT"
    loop.close()
    released.set()
    assert robot.calls == ["connect", "stop", "close"]


def test_an_observation_that_raises_before_motion_says_what():
    robot = VirtualRobot(RealClock(), look=lambda reading: reading.values["y"])
    nothing = ThreadInference(SPEC_OF_X, lambda _ticket, _seen: {"action": np.zeros((16, 2))})
    loop = ControlLoop(robot, nothing, LoopConfig(call_timeout=20.0), log=lambda line: None)
    with pytest.raises(RobotFault, match=r"observe\(\) raised KeyError: 'y'"):
        loop.prepare()
    loop.close()


# What a sensor's read returns ---------------------------------------------------------------------


@pytest.mark.parametrize("returned", [(0.1, 0.2), (0.1, 0.2, 0.3), (0,)])
def test_joints_as_a_tuple_are_not_taken_for_a_time_and_a_value(returned):
    read = threading.Event()
    sensor = Polled(lambda: read.set() or returned, 1000.0, name="joints")
    read.wait(20.0)
    sensor.close(20.0)
    assert sensor.newest is None
    assert "a tuple is (seconds, array); for a value alone, give an array" in str(sensor.error)


def test_limits_are_declared_for_each_number():
    assert spec(Limits([-1, -1], [1, 1], [1, 1], [4, 4])).action.groups[0].limits.low == (-1, -1)
