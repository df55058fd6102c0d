"""What is taken from readings: which entries are used, how old each may be, what a hold says."""

import multiprocessing
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data.core.errors import ConfigError
from dipole.data.transforms.rotation import SIX, VECTOR
from dipole.deploy import (
    ActionGroup,
    ActionSpec,
    Channel,
    ControlLoop,
    Limits,
    LoopConfig,
    Reading,
    RobotSpec,
    State,
    VirtualClock,
)
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.loop.states import StateError
from dipole.deploy.observations.buffer import ObservationBuffer
from dipole.deploy.observations.history import RecentObservations
from dipole.deploy.safety.times import check_times
from dipole.deploy.types import PolicySpec

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import GENEROUS, WINDOW, VirtualRobot, counting, run

CHANNELS = {"camera": Channel((2, 2, 3), "uint8"), "joints": Channel((2,))}
POLICY = PolicySpec({"camera": (2, 2, 3)}, 2, WINDOW)


def values(joints=(0.0, 0.0), level=0):
    return {"camera": np.full((2, 2, 3), level, np.uint8), "joints": np.array(joints, np.float32)}


def buffer(**options):
    return ObservationBuffer(POLICY, channels=CHANNELS, also=["joints"], **options)


# Ages ---------------------------------------------------------------------------------------------


def test_each_channel_has_its_own_age_and_the_one_that_is_too_old_is_named():
    seen = buffer(max_age={"camera": 0.3, "joints": 0.05})
    seen.update(Reading(1.0, values(), {"camera": 0.8}), now=1.0)
    assert seen.stale(1.04) == ""
    assert seen.stale(1.06) == "the newest reading of joints is 0.06 s old, more than 0.05 s"
    assert seen.stale(1.2) == (
        "the newest reading of camera is 0.40 s old, more than 0.3 s; "
        "the newest reading of joints is 0.20 s old, more than 0.05 s"
    )


def test_a_channel_that_is_not_named_may_be_three_tenths_of_a_second_old():
    seen = buffer(max_age={"joints": 0.05})
    seen.update(Reading(1.0, values(), {"camera": 0.75}), now=1.0)
    assert seen.stale(1.04) == ""
    seen.update(Reading(1.1, values(), {"camera": 0.75}), now=1.1)
    assert seen.stale(1.1) == "the newest reading of camera is 0.35 s old, more than 0.3 s"


def test_what_was_never_read_is_said():
    seen = buffer(max_age=0.3)
    assert seen.stale(1.0) == "there is no reading of camera; there is no reading of joints"
    seen.update(Reading(1.0, {"joints": np.zeros(2)}), now=1.0)
    assert seen.stale(1.0) == "there is no reading of camera (camera: is missing)"
    assert seen.latest is None


@pytest.mark.parametrize("ages", [0.0, -1, True, np.inf, "0.3", {"x": 0}, {"x": None}])
def test_an_age_that_is_no_positive_number_is_refused(ages):
    with pytest.raises(ConfigError, match="max_observation_age is"):
        LoopConfig(max_observation_age=ages)


def test_ages_by_name_come_from_plain_values():
    ages = {"camera": 0.3, "joints": 0.05}
    assert LoopConfig.from_dict({"max_observation_age": ages}).max_observation_age == ages


def test_only_an_age_by_name_may_be_shorter_than_the_policys_period():
    check_times(LoopConfig(max_observation_age={"joints": 0.05}).resolved(), None)
    with pytest.raises(ConfigError, match=r"max_observation_age=0\.05 s is shorter"):
        check_times(LoopConfig(max_observation_age=0.05).resolved(), None)


def test_the_time_of_an_observation_is_that_of_its_oldest_entry_that_the_policy_sees():
    seen = buffer()
    seen.update(Reading(1.0, values(), {"joints": 0.7}), now=1.0)
    assert seen.latest.time == 1.0
    assert seen.age(1.1) == pytest.approx(0.1)


# Entries that are not used ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "counted"),
    [
        (100.0, "joints is from the future"),
        (1.106, "joints is from the future"),
        (0.5, "joints went back in time"),
        (np.nan, "joints has a time that is not finite"),
        (np.inf, "joints has a time that is not finite"),
        (None, "joints has a time that is not finite"),
    ],
)
def test_a_clock_that_is_wrong_is_counted_by_channel_and_its_reading_not_used(time, counted):
    seen = buffer(max_age=0.3)
    seen.update(Reading(1.0, values()), now=1.0)
    for now in (1.1, 1.1):
        reading = Reading(1.1, values(joints=(9, 9), level=5), {"joints": time})
        seen.update(reading, now)
    assert seen.refused == {counted: 2}
    assert seen.newest["joints"].tolist() == [0, 0]
    assert seen.latest.values["camera"].max() == 5  # the other sensor goes on
    assert seen.stale(1.35).startswith(
        "the newest reading of joints is 0.35 s old, more than 0.3 s"
    )
    assert seen.stale(1.35).endswith(f"(joints: {counted.removeprefix('joints ')})")


@pytest.mark.parametrize(
    ("joints", "counted"),
    [
        (np.float32([np.nan, 0]), "joints is not finite"),
        (np.float32([0, np.inf]), "joints is not finite"),
        (np.zeros(3), "joints has shape [3]"),
        (np.array(["a", "b"]), "joints is no array of numbers (dtype <U1)"),
        ([[1.0], [1.0, 2.0]], "joints is no array of numbers (dtype object)"),
        (None, "joints is no array of numbers (dtype object)"),
    ],
)
def test_what_measures_the_robot_is_checked_though_the_policy_does_not_observe_it(joints, counted):
    seen = buffer(max_age=0.3)
    seen.update(Reading(1.0, values(joints=(1, 2))), now=1.0)
    seen.update(Reading(1.1, values() | {"joints": joints}), now=1.1)
    assert seen.refused == {counted: 1}
    assert seen.newest["joints"].tolist() == [1, 2]


def test_a_picture_of_another_dtype_is_not_shown_to_the_policy():
    seen = buffer()
    picture = np.full((2, 2, 3), 0.5, np.float32)
    seen.update(Reading(1.0, values() | {"camera": picture}), now=1.0)
    assert seen.refused == {"camera has dtype float32, not uint8": 1}
    seen.update(Reading(1.1, values() | {"joints": np.array([1, 2])}), now=1.1)
    assert seen.newest["joints"].tolist() == [1, 2]  # whole numbers are numbers


@pytest.mark.parametrize(
    ("channel", "wrong", "counted"),
    [
        (Channel((7,), quaternions=(3,)), [0.0] * 7, "quaternion_xyzw at 3: [0, 0, 0, 0]"),
        (Channel((6,), rotations=((0, SIX),)), [1, 0, 0, 2, 0, 0], "rotation_6d at 0"),
        (Channel((3,), "float64", rotations=((0, VECTOR),)), [1e300] * 3, "rotation_vector at 0"),
    ],
)
def test_an_invalid_rotation_in_a_reading_is_refused_by_name(channel, wrong, counted):
    spec = PolicySpec({"hand": channel.shape}, 2, WINDOW)
    seen = ObservationBuffer(spec, align_to="hand", channels={"hand": channel})
    for now in (1.0, 1.1):
        seen.update(Reading(now, {"hand": np.array(wrong, channel.dtype)}), now)
    assert seen.latest is None
    (said,) = seen.refused
    assert said.startswith(f"hand has no {counted}")


ANYTHING = st.one_of(
    st.none(),
    st.text(max_size=2),
    st.integers(),
    st.floats(),
    st.lists(st.one_of(st.floats(), st.lists(st.floats(), max_size=2)), max_size=5),
    st.lists(st.floats(width=32), min_size=4, max_size=4).map(np.float32),
)


@given(
    value=ANYTHING,
    time=st.one_of(ANYTHING, st.floats(0.9, 1.1)),
    written=st.sampled_from(["quaternion_xyzw", "quaternion_wxyz", "rotation_vector"]),
)
def test_nothing_that_a_sensor_says_is_an_exception_and_what_is_shown_is_finite(
    value, time, written
):
    channel = Channel((4,), rotations=((0, written),))
    spec = PolicySpec({"hand": (4,), "camera": (2, 2, 3)}, 2, WINDOW)
    channels = {"hand": channel, "camera": CHANNELS["camera"]}
    seen = ObservationBuffer(spec, 0.01, align_to="camera", channels=channels)
    picture = {"camera": values()["camera"]}
    good = picture | {"hand": np.float32([0, 0.5, 0, 0.5])}
    for number, hand, captured in ((0, good, 0.9), (1, picture | {"hand": value}, time)):
        seen.update(Reading(1.0 + number, hand, {"hand": captured}), now=1.0 + number)
    assert np.isfinite(seen.latest.values["hand"]).all()
    assert np.isfinite(seen.newest["hand"]).all()


def test_an_entry_that_nobody_needs_is_shown_only_while_it_can_be_used():
    channels = CHANNELS | {"force": Channel((1,))}
    seen = ObservationBuffer(POLICY, channels=channels, also=["joints"], max_age=0.3)
    seen.update(Reading(1.0, values() | {"force": np.float32([3])}), now=1.0)
    assert seen.latest.values["force"].tolist() == [3]
    seen.update(Reading(1.1, values() | {"force": np.float32([np.nan])}), now=1.1)
    assert "force" not in seen.latest.values
    assert seen.stale(1.1) == ""
    assert seen.refused == {}


def test_memory_that_a_driver_uses_again_is_copied_and_what_is_immutable_is_not():
    memory, fresh = values(), values(level=3)
    seen = buffer()
    seen.update(Reading(1.0, memory), now=1.0)
    memory["camera"][:] = 99
    assert seen.newest["camera"].max() == 0
    seen.update(Reading(1.1, fresh, immutable=True), now=1.1)
    assert seen.newest["camera"] is fresh["camera"]
    seen.push()
    assert seen._recent._frames[0]["camera"] is fresh["camera"]


# The history --------------------------------------------------------------------------------------


def test_the_first_observation_is_repeated_and_the_last_ones_are_kept():
    recent = RecentObservations(2)
    with pytest.raises(ValueError, match="no observation yet"):
        recent.stacked()
    for number in (1, 2, 3):
        recent.push({"x": np.array([number])})
        if number == 1:
            assert recent.stacked()["x"].tolist() == [[1], [1]]
    assert recent.stacked()["x"].tolist() == [[2], [3]]
    recent.clear()
    recent.push({"x": np.array([9])})
    assert recent.stacked()["x"].tolist() == [[9], [9]]


def test_what_was_asked_with_does_not_change_when_more_is_seen():
    recent = RecentObservations(2)
    recent.push({"x": np.array([1])})
    asked = recent.stacked()
    recent.push({"x": np.array([2])})
    assert asked["x"].tolist() == [[1], [1]]
    here, there = multiprocessing.Pipe()
    here.send(recent.stacked())
    sent = there.recv()
    assert type(sent) is dict
    assert sent["x"].tolist() == [[1], [2]]
    assert (len(asked), list(asked), asked["x"] is asked["x"]) == (1, ["x"], True)


# In the loop --------------------------------------------------------------------------------------


def arm_loop(look, clock=None, group=None, channel=None, **settings):
    """A loop of a policy that sees only "x", on a robot whose joints are measured by "joints"."""
    clock = clock or VirtualClock(start=10.0)
    group = group or ActionGroup("arm", "joint_position", ("a", "b"), measured_by="joints",
                                 limits=GENEROUS)  # fmt: skip

    def both(reading):
        joints = np.zeros(channel.shape if channel else 2, np.float32)
        return look(Reading(reading.time, {"x": np.zeros(2, np.float32), "joints": joints}))

    robot = VirtualRobot(clock, look=both)
    channels = {"x": Channel((2,)), "joints": channel or Channel((2,))}
    robot.spec = RobotSpec(channels, ActionSpec.of(group))
    policy = PolicySpec({"x": (2,)}, group.size, WINDOW)
    config = LoopConfig(
        **{"control_hz": 10.0, "max_limited": None, "max_approach": None} | settings
    )
    inference = VirtualInference(policy, counting_of(group.size), clock, 0.0)
    return ControlLoop(robot, inference, config, clock=clock, log=lambda line: None), robot


def counting_of(size):
    def compute(ticket, observation):
        return {"action": np.repeat(counting()(ticket, observation)["action"][:, :1], size, 1)}

    return compute


def test_nan_in_what_measures_the_robot_is_a_hold_that_names_it_and_nothing_is_sent():
    clock = VirtualClock(start=10.0)

    def look(reading):
        wrong = np.float32([np.nan, 0]) if clock.now() > 11.0 else np.zeros(2, np.float32)
        return Reading(reading.time, reading.values | {"joints": wrong})

    loop, robot = arm_loop(look, clock, max_observation_age=0.35)
    report = run(loop, 2.0)
    held = next(t for t in report.transitions if t.state is State.HOLD)
    assert held.reason == (
        "the newest reading of joints is 0.40 s old, more than 0.35 s (joints: is not finite)"
    )
    assert report.counts["readings_joints is not finite"] == 9
    assert np.isfinite([action for _, action in robot.sent]).all()


def test_an_old_measurement_is_no_place_to_start_from():
    def look(reading):
        return Reading(reading.time, reading.values, {"joints": reading.time - 99.0})

    loop, robot = arm_loop(look)
    with pytest.raises(StateError, match="no usable observation within 5 s"):
        run(loop, 2.0)
    assert robot.sent == []


def test_a_zero_quaternion_in_what_measures_a_pose_is_a_hold_and_no_fault():
    clock = VirtualClock(start=10.0)
    limits = Limits((-1e4,) * 4, (1e4,) * 4, (1e6,) * 4, (1e7,) * 4)
    hand = ActionGroup("hand", "pose", ("qx", "qy", "qz", "qw"), measured_by="joints",
                       rotation="quaternion_xyzw", limits=limits)  # fmt: skip

    def look(reading):
        turned = np.float32([0, 0, 0, 0 if clock.now() > 11.0 else 1])
        return Reading(reading.time, reading.values | {"joints": turned})

    loop, _ = arm_loop(look, clock, hand, Channel((4,)))
    report = run(loop, 2.0)
    assert loop.states.state is State.STOPPED
    held = next(t for t in report.transitions if t.state is State.HOLD)
    assert held.reason.endswith("(joints: has no quaternion_xyzw at 0: [0, 0, 0, 0])")


def test_a_sensors_error_is_forgotten_once_it_says_something_new():
    seen = buffer(max_age=0.3)
    seen.update(Reading(1.0, values(), {}, {"camera": "OSError: out"}), now=1.0)
    assert seen.stale(1.4).startswith(
        "the newest reading of camera is 0.40 s old, more than 0.3 s ("
    )
    assert seen.refused == {}  # its entry was used
    seen.update(Reading(1.1, values()), now=1.1)
    assert "OSError" not in seen.stale(1.5)


def test_a_sensors_own_error_is_in_the_reason_of_the_hold():
    clock = VirtualClock(start=10.0)

    def look(reading):
        if clock.now() < 11.0:
            return reading
        problems = {"x": "OSError: the cable is out"}
        return Reading(reading.time, reading.values, {"x": 10.9}, problems)

    loop, _ = arm_loop(look, clock, max_observation_age=0.35)
    report = run(loop, 2.0)
    held = next(t for t in report.transitions if t.state is State.HOLD)
    assert held.reason == (
        "the newest reading of x is 0.40 s old, more than 0.35 s (x: OSError: the cable is out)"
    )


def test_an_error_of_a_sensor_that_never_saw_anything_is_said_before_anything_moves():
    def look(reading):
        return Reading(reading.time, {"joints": np.zeros(2)}, {}, {"x": "OSError: no camera"})

    loop, _ = arm_loop(look)
    with pytest.raises(StateError, match=r"within 5 s: .* x \(x: OSError: no camera\)"):
        run(loop, 2.0)
