"""What was trained is what is driven: rate, names and units agree, or a refusal names both."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import WINDOW, VirtualRobot, counting

from dipole.data import ConfigError
from dipole.deploy import (
    ActionGroup,
    ActionSpec,
    Channel,
    ControlLoop,
    Limits,
    LoopConfig,
    RobotSpec,
    VirtualClock,
)
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.loop.report_file import refusal_reported
from dipole.deploy.loop.run import RunConfig, run_policy
from dipole.deploy.recording.recorder import FlightRecorder
from dipole.deploy.recording.replay import replay
from dipole.deploy.robots.fit import check_fit
from dipole.deploy.types import Meaning, PolicySpec
from dipole.deploy.wire.protocol import ProtocolError, Schema, greeting, read_greeting

JOINTS = ("shoulder", "elbow")
TRAINED = Meaning(JOINTS, "deg")
POLICY = PolicySpec(
    {"joints": (2,)}, 2, WINDOW, fps=50.0, meaning={"joints": TRAINED, "action": TRAINED}
)
LIMITS = Limits((-100.0,) * 2, (100.0,) * 2, (1e4,) * 2, (1e6,) * 2)


def arm(unit="deg", names=JOINTS, joints=(), joints_unit=None):
    channel = Channel((2,), unit=unit if joints_unit is None else joints_unit, names=joints)
    return RobotSpec({"joints": channel}, ActionSpec(names, unit, measured_by="joints"), LIMITS)


def refusal(robot, policy=POLICY, accept=(), policy_hz=None):
    with pytest.raises(ConfigError) as error:
        check_fit(robot, policy, accept, policy_hz)
    return str(error.value)


def test_a_robot_that_is_what_was_trained_on_fits():
    assert check_fit(arm(joints=JOINTS), POLICY, (), 50.0) == []


def test_another_spelling_of_the_unit_fits():
    assert check_fit(arm("degrees"), POLICY) == []


def test_another_unit_is_refused_and_both_are_named():
    said = refusal(arm("rad"))
    assert "the action has other units: the policy was trained on (shoulder, elbow) in deg" in said
    assert "the robot has (shoulder, elbow) in rad" in said
    assert "deploy.accept_mismatch=[units]" in said


def test_another_order_of_the_action_is_refused_and_both_are_named():
    said = refusal(arm(names=("elbow", "shoulder")))
    assert "the action has another order: the policy was trained on (shoulder, elbow) in d" in said
    assert "the robot has (elbow, shoulder) in deg" in said
    assert "deploy.accept_mismatch=[names]" in said


def test_other_names_are_refused():
    assert "the action has other names: the policy" in refusal(arm(names=("left", "right")))


def test_another_order_of_an_observation_is_refused():
    group = ActionGroup("arm", "joint_position", JOINTS, "deg", measured_by="joints",
                        columns=(1, 0))  # fmt: skip
    channel = Channel((2,), unit="deg", names=("elbow", "shoulder"))
    said = refusal(RobotSpec({"joints": channel}, ActionSpec.of(group), LIMITS))
    assert said.startswith("observation 'joints' has another order: the policy was trained on (sho")


def test_what_measures_the_action_is_in_the_actions_order():
    """The robot does not name the joints it observes, but promises the action's order for them."""
    seen = replace(POLICY, meaning={"joints": TRAINED})
    said = refusal(arm(names=("elbow", "shoulder")), seen)
    assert "observation 'joints' has another order" in said
    other = replace(POLICY, meaning={"joints": Meaning(("shoulder.pos", "elbow.pos"), "deg")})
    assert check_fit(arm(), other) == []  # names of its own say nothing of the order


def test_units_may_differ_from_number_to_number():
    policy = replace(POLICY, meaning={"action": Meaning(units=("rad", "m"))})
    said = refusal(arm("rad"), policy)
    assert "the policy was trained on in rad, m; the robot has (shoulder, elbow) in rad" in said


def test_everything_that_differs_is_said_at_once():
    said = refusal(arm("rad", ("elbow", "shoulder")), policy_hz=10.0)
    assert "trained on demonstrations of 50 frames a second; its actions are sent at 10 Hz" in said
    assert "observation 'joints' has other units and another order" in said
    assert "the action has other units and another order" in said
    assert "deploy.accept_mismatch=[rate,units,names]" in said


def test_what_is_accepted_is_noted_with_both_sides():
    robot = arm("rad", ("elbow", "shoulder"))
    notes = check_fit(robot, POLICY, ("rate", "units", "names"), 10.0)
    assert len(notes) == 3
    assert notes[0].startswith("accepted by deploy.accept_mismatch=[rate]: the policy was trained")
    assert "(shoulder, elbow) in deg; the robot has (elbow, shoulder) in rad" in notes[2]


def test_accepting_one_difference_accepts_no_other():
    said = refusal(arm("rad", ("elbow", "shoulder")), accept=("units",))
    assert "deploy.accept_mismatch=[units,names]" in said
    assert "give and take the numbers in the policy's order" in said
    assert "convert them" not in said


def test_pictures_are_pictures():
    policy = PolicySpec({"image": (8, 8, 3)}, 2, WINDOW, meaning={"image": Meaning(dtype="uint8")})
    action = ActionSpec(("x", "y"), kind="joint_velocity")
    wrong = RobotSpec({"image": Channel((8, 8, 3))}, action, LIMITS)
    assert "observes 'image' as uint8, the robot gives float32" in refusal(wrong, policy)
    right = RobotSpec({"image": Channel((8, 8, 3), "uint8")}, action, LIMITS)
    assert check_fit(right, policy) == []


def test_numbers_may_come_in_any_dtype():
    robot = RobotSpec(
        {"joints": Channel((2,), "float64")},
        ActionSpec(JOINTS, "deg", measured_by="joints"),
        LIMITS,
    )
    assert check_fit(robot, POLICY) == []


WORDS = st.sampled_from(["", "deg", "degrees", "rad", "radians", "m"])
NAMES = st.sampled_from([(), JOINTS, ("elbow", "shoulder"), ("a", "b")])
SAME = {"deg": "deg", "degrees": "deg", "rad": "rad", "radians": "rad", "m": "m"}


@given(WORDS, WORDS, NAMES, NAMES.filter(bool))
def test_only_what_both_sides_know_and_is_different_is_refused(one, two, ours, theirs):
    policy = replace(POLICY, meaning={"action": Meaning(ours, one)})
    robot = arm(two, theirs)
    units = bool(one and two and SAME[one] != SAME[two])
    names = bool(ours and ours != theirs)
    kinds = [kind for kind, differs in (("units", units), ("names", names)) if differs]
    if kinds:
        said = refusal(robot, policy)
        assert all(kind in said.rpartition("accept_mismatch=")[2] for kind in kinds)
        assert check_fit(robot, policy, tuple(kinds))
    else:
        assert check_fit(robot, policy) == []


# Rates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fps", "policy_hz", "control_hz"),
    [(None, 10.0, 100.0), (10, 10.0, 100.0), (50, 50.0, 100.0), (30, 30.0, 120.0),
     (15, 15.0, 105.0), (100, 100.0, 100.0), (200, 200.0, 200.0), (3, 3.0, 102.0)],
)  # fmt: skip
def test_rates_follow_the_demonstrations(fps, policy_hz, control_hz):
    rates = LoopConfig().resolved(replace(POLICY, fps=fps))
    assert (rates.policy_hz, rates.control_hz) == (policy_hz, control_hz)


def test_without_a_policy_rates_are_10_and_100():
    rates = LoopConfig().resolved()
    assert (rates.dt, rates.period, rates.steps) == (0.1, 0.01, 10)


@given(st.floats(0.5, 500))
def test_commands_are_a_whole_multiple_of_actions_and_at_least_100_a_second(fps):
    rates = LoopConfig().resolved(replace(POLICY, fps=fps))
    assert rates.control_hz >= 100 - 1e-6
    assert rates.control_hz == pytest.approx(rates.steps * fps)
    assert (rates.steps - 1) * fps < 100
    assert rates.resolved(replace(POLICY, fps=fps)) == rates


def test_another_rate_than_was_trained_is_refused_and_both_are_named():
    with pytest.raises(ConfigError, match=r"policy_hz = 10, but .* of 50 frames a second"):
        LoopConfig(policy_hz=10).resolved(POLICY)
    assert LoopConfig(policy_hz=50).resolved(POLICY).control_hz == 100
    accepted = LoopConfig(policy_hz=10, accept_mismatch=["rate"]).resolved(POLICY)
    assert (accepted.policy_hz, accepted.control_hz) == (10, 100)


def test_a_command_rate_that_does_not_divide_names_those_that_do():
    with pytest.raises(ConfigError, match=r"100 is not .* policy_hz = 30: .* give 90 or 120"):
        LoopConfig(control_hz=100).resolved(replace(POLICY, fps=30))


@pytest.mark.parametrize(
    ("accepted", "message"),
    [(["units", "rates"], "'rates', did you mean 'rate'"), ("rate", "a list, such as")],
)
def test_only_what_can_differ_is_accepted(accepted, message):
    with pytest.raises(ConfigError, match=message):
        LoopConfig(accept_mismatch=accepted)


# In the loop, its report, its recording ---------------------------------------------------------


def loop_of(policy, config=None, recorder=None):
    clock = VirtualClock()
    robot = VirtualRobot(clock)
    inference = VirtualInference(policy, counting(), clock)
    options = {"clock": clock, "log": lambda line: None, "recorder": recorder}
    return ControlLoop(robot, inference, config, **options), robot


def policy_of_x(**known):
    return PolicySpec({"x": (2,)}, 2, WINDOW, **known)


def test_the_loop_runs_at_the_rate_of_the_demonstrations():
    loop, _ = loop_of(policy_of_x(fps=50.0), LoopConfig(max_limited=None, max_approach=None))
    loop.prepare()
    loop.arm()
    report = loop.run(1.0)
    assert report.counts["actions"] == 50
    assert report.counts["slots"] == 100


def test_a_loop_with_another_robot_is_not_made():
    meaning = {"action": Meaning(("b", "a"))}
    with pytest.raises(ConfigError, match="the action has another order"):
        loop_of(policy_of_x(meaning=meaning))


def test_what_is_accepted_stands_in_the_report():
    policy = policy_of_x(meaning={"action": Meaning(("b", "a"))}, fps=20.0)
    config = LoopConfig(policy_hz=10.0, accept_mismatch=("rate", "names"))
    loop, _ = loop_of(policy, config)
    notes = loop.report.to_dict()["notes"]
    assert [note.partition(":")[0] for note in notes] == [
        "accepted by deploy.accept_mismatch=[rate]",
        "accepted by deploy.accept_mismatch=[names]",
        "group 'action' has no unit, so angles that wrap would not be noticed",
    ]
    assert notes[0] in str(loop.report)


def recorded(path, policy, config):
    robot = VirtualRobot(VirtualClock())
    recorder = FlightRecorder(path, robot.spec, config)
    loop, _ = loop_of(policy, config, recorder)
    loop.prepare()
    loop.arm()
    loop.run(1.0)
    recorder.close()
    return path


def test_a_recording_replays_at_the_rate_it_was_made_with(tmp_path):
    policy = policy_of_x(fps=20.0, meaning={"action": Meaning(("b", "a"))})
    config = LoopConfig(max_limited=None, max_approach=None, accept_mismatch=("names",))
    again = list(replay(recorded(tmp_path / "flight.rec", policy, config)))
    assert [one.then.kind for one in again].count("act") == 20
    assert [one.then.kind for one in again].count("command") >= 100  # and the braking ramp
    assert all(one.same for one in again)


# Over the wire ----------------------------------------------------------------------------------


def test_a_greeting_says_what_was_trained_on():
    policy = replace(POLICY, meaning={**POLICY.meaning, "joints": Meaning(units=("deg", "m"))})
    said = json.loads(json.dumps(greeting(Schema(policy), 2**20)))
    assert read_greeting(said).spec == policy
    image = PolicySpec({"image": (8, 8, 3)}, 2, WINDOW, meaning={"image": Meaning(dtype="uint8")})
    said = greeting(Schema(image, {"image": "uint8"}), 2**20)
    assert read_greeting(said).spec == image


def test_an_older_servers_greeting_leaves_it_unknown():
    said = greeting(Schema(PolicySpec({"joints": (2,)}, 2, WINDOW)), 2**20)
    del said["policy"]["fps"], said["policy"]["action"]
    spec = read_greeting(said).spec
    assert (spec.fps, spec.meaning) == (None, {})
    assert check_fit(arm("rad", ("elbow", "shoulder")), spec) == []


@pytest.mark.parametrize(
    "wrong",
    [{"fps": -1}, {"fps": "50"}, {"action": {"names": ["one"]}}, {"action": {"units": ["m"] * 3}},
     {"action": {"units": 7}}, {"action": "deg"}],
)  # fmt: skip
def test_a_greeting_that_makes_no_sense_is_an_error(wrong):
    said = greeting(Schema(POLICY), 2**20)
    said["policy"] |= wrong
    with pytest.raises(ProtocolError, match="cannot be read"):
        read_greeting(said)


# What a script finds ----------------------------------------------------------------------------


def test_a_refusal_leaves_its_reason(tmp_path):
    clock = VirtualClock()
    policy = policy_of_x(meaning={"action": Meaning(("b", "a"))})
    config = RunConfig(arm="now", watchdog=None, output=tmp_path / "out", record=False)
    with pytest.raises(ConfigError):
        run_policy(VirtualRobot(clock), lambda: VirtualInference(policy, counting(), clock), config)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["state"] == "REFUSED"
    assert report["reason"].startswith("the action has another order")
    assert set(report) == {"state", "reason"}


def test_a_refusal_never_replaces_the_report_of_a_run(tmp_path):
    path = tmp_path / "report.json"
    for before, after in (
        ('{"state": "STOPPED"}', "STOPPED"),
        ('{"state": "REFUSED"}', "REFUSED"),
    ):
        path.write_text(before)
        with pytest.raises(ConfigError), refusal_reported(tmp_path):
            raise ConfigError("because")
        assert json.loads(path.read_text())["state"] == after
    assert json.loads(path.read_text())["reason"] == "because"


def test_specs_are_plain_values():
    assert json.loads(json.dumps(asdict(POLICY)))["meaning"]["action"]["units"] == "deg"


def test_a_channel_has_a_name_for_each_number():
    with pytest.raises(ConfigError, match="1 names \\(shoulder\\) for a reading of shape \\(2,\\)"):
        Channel((2,), names=("shoulder",))
