"""A run from beginning to end: in which order things end, and what is said where."""

import io
import json
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy import ActionSpec, DryRun, Limits, LoopConfig, State, VirtualClock
from dipole.deploy.inference.base import WARM_UP
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.loop import run as module
from dipole.deploy.loop.log import LOGGER, printed_log
from dipole.deploy.loop.run import RunConfig, ended_well, run_policy
from dipole.deploy.loop.watched import run_in_thread
from dipole.deploy.safety import watchdog
from dipole.deploy.safety.chunk_checks import RefusedAction
from dipole.deploy.safety.times import check_braking, check_times

sys.path.insert(0, str(Path(__file__).parent / "support"))
from enough import LONG, end_long_runs_after
from real_processes import SPEC, RealRobot, make_real_loop, quick
from stoppers import touch
from virtual_robot import VirtualRobot

PATIENT = LoopConfig(max_observation_age=5.0, call_timeout=2.0)


def config(folder, **settings):
    return RunConfig(PATIENT, **{"seconds": LONG, "arm": "now", "watchdog": 5.0} | settings)


def infer():
    return ThreadInference(*quick())


@pytest.fixture(autouse=True)
def a_long_run_ends_once_it_has_moved(monkeypatch):
    end_long_runs_after(monkeypatch, 1)


# Ends ---------------------------------------------------------------------------------------------


class FakeWatchdog:
    """Notes when it is disarmed."""

    fired = stopped = False

    def __init__(self, calls):
        self.calls = calls

    def beat(self):
        pass

    def stopping(self, seconds):
        pass

    def close(self):
        self.calls.append("disarmed")


@pytest.fixture
def order(tmp_path, monkeypatch):
    """A robot that notes what it is told, and when its watchdog is disarmed."""
    robot = RealRobot(tmp_path)
    robot.stopper = lambda: lambda: None
    monkeypatch.setattr(module, "Watchdog", lambda stopper, timeout: FakeWatchdog(robot.calls))
    return robot


def test_the_watchdog_is_disarmed_after_the_robot_was_stopped(order, tmp_path):
    assert ended_well(run_policy(order, infer, config(tmp_path)))
    assert [call for call in order.calls if call != "hold"][-3:] == ["stop", "disarmed", "close"]


def test_so_it_is_when_a_run_is_interrupted(order, tmp_path, monkeypatch):
    def interrupted(loop, seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_in_thread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_policy(order, infer, config(tmp_path))
    assert order.calls == ["connect", "stop", "disarmed", "close"]


def test_a_close_that_fails_is_in_the_report_and_the_run_did_not_end_well(tmp_path):
    """It is what switches motors off."""
    robot = RealRobot(tmp_path)

    def close():
        raise OSError("no answer from the drive")

    robot.close = close
    report = run_policy(robot, infer, config(tmp_path, output=tmp_path / "run"))
    assert report.stopped is True
    assert not ended_well(report)
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert written["closed"] is False
    [note] = written["notes"]
    assert note == "the robot's close() did not succeed: OSError: no answer from the drive"
    assert note in str(report)


def test_the_report_says_that_the_robot_was_closed(tmp_path):
    robot = RealRobot(tmp_path)
    assert ended_well(run_policy(robot, infer, config(tmp_path, output=tmp_path / "run")))
    assert json.loads((tmp_path / "run" / "report.json").read_text())["closed"] is True


@pytest.mark.parametrize(("interrupts", "state"), [(1, State.STOPPED), (2, State.FAULT)])
def test_an_interrupt_lets_the_robot_brake_and_another_one_does_not(tmp_path, interrupts, state):
    loop = make_real_loop(tmp_path, call_timeout=5.0)
    loop.prepare()
    loop.arm()
    wait, waits = loop.wait, []

    def interrupted(timeout):
        waits.append(timeout)
        if len(waits) <= interrupts:
            raise KeyboardInterrupt
        return wait(timeout)

    loop.wait = interrupted
    with pytest.raises(KeyboardInterrupt):
        run_in_thread(loop, 30.0)
    assert (tmp_path / "stopped").exists()
    assert (loop.states.state, loop.states.reason) == (state, "KeyboardInterrupt")
    loop.wait = wait
    loop.close()


def test_a_stop_that_fails_is_made_by_the_watchdog(tmp_path):
    robot = RealRobot(tmp_path)

    def stop():
        raise OSError("no route to the robot")

    robot.stop = stop
    report = run_policy(robot, infer, config(tmp_path))
    assert report.stopped is False
    assert report.notes == ["the watchdog stopped the robot: its stopper() returned"]
    assert (tmp_path / "stopped_by_watchdog").exists()
    assert not ended_well(report)


def test_a_stop_and_a_stopper_that_fail_are_said(tmp_path, monkeypatch):
    robot = RealRobot(tmp_path)
    robot.stop = lambda: 1 / 0
    robot.stopper = lambda: partial(touch, tmp_path / "no such folder" / "file")
    monkeypatch.setattr(watchdog, "STOP_SECONDS", 0.5)  # for which it is waited for, here
    monkeypatch.setattr(watchdog, "GRACE_SECONDS", 0.5)
    report = run_policy(robot, infer, config(tmp_path))
    assert report.stopped is False
    assert "FAILED: use the hardware's emergency stop" in report.notes[0]


def test_how_the_task_went_is_in_the_report(tmp_path):
    robot = RealRobot(tmp_path)
    robot.result = lambda: {"max_reward": 0.75}
    run_policy(robot, infer, config(tmp_path, output=tmp_path / "run", record=False))
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert written["task"] == {"max_reward": 0.75}
    assert written["stopped"] is True


# Runs that come to nothing ------------------------------------------------------------------------


def broken(when):
    """A policy whose chunks are not finite where `when` says so of a ticket."""

    def compute(ticket, observation):
        return {"action": np.full((16, 2), np.nan if when(ticket) else 1.0)}

    return lambda: ThreadInference(SPEC, compute)


def test_a_policy_without_a_usable_chunk_is_refused_before_a_person_is_asked(tmp_path):
    robot = RealRobot(tmp_path)
    with pytest.raises(RefusedAction, match=r"chunk for what is seen now: .* are not finite"):
        run_policy(robot, broken(lambda ticket: True), config(tmp_path, arm="ask"))
    assert robot.sent == []
    assert "close" in robot.calls


def test_a_run_in_which_no_action_could_be_used_did_not_end_well(tmp_path):
    moving = broken(lambda ticket: ticket != WARM_UP)
    report = run_policy(RealRobot(tmp_path), moving, config(tmp_path, seconds=0.3))
    assert report.transitions[-1].reason == "the time is up"
    assert report.notes == ["nothing moved: the policy gave no action that could be used in time"]
    assert not ended_well(report)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"max_hold": 0.2}, "held for 0.2 s"),
        ({"max_approach": 0.2}, "the first action was not reached for 0.2 s"),
        ({"max_limited": 0.2, "max_approach": None}, "limits were met for 0.2 s"),
    ],
)
def test_a_run_that_the_loop_gave_up_did_not_end_well(tmp_path, settings, reason):
    robot = RealRobot(tmp_path, limits=Limits((-2.0,) * 2, (2.0,) * 2, (0.1,) * 2, (1.0,) * 2))

    def make():
        return ThreadInference(SPEC, compute)

    def compute(ticket, observation):
        if "max_limited" in settings and (robot.x != 0.005).any():  # what it can reach comes first
            return {"action": np.full((16, 2), 0.005)}
        gone = "max_hold" in settings and ticket.chunk_id > 1
        return {"action": np.full((16, 2), np.nan if gone else 1.5)}

    terms = config(tmp_path, seconds=20.0)
    report = run_policy(robot, make, replace(terms, loop=replace(PATIENT, **settings)))
    assert report.transitions[-1].state is State.STOPPED, report.transitions
    assert report.transitions[-1].reason.startswith(reason), report.transitions
    assert report.to_dict()["as_asked"] is False
    assert report.counts["actions"] > 0
    assert not ended_well(report)


def test_a_run_whose_time_is_up_ended_as_asked(tmp_path):
    report = run_policy(RealRobot(tmp_path), infer, config(tmp_path, seconds=1.0))
    assert report.transitions[-1].reason == "the time is up"
    assert report.to_dict()["as_asked"] is True
    assert ended_well(report)


# Time-outs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "watchdog", "message"),
    [
        ({"call_timeout": 0.5}, 0.5, r"watchdog=0.5 s, .* call_timeout=0.5 s.*more than 0.55 s"),
        ({}, 0.15, r"watchdog=0.15 s, .* call_timeout=0.1 s"),
        ({}, float("inf"), r"watchdog=inf s"),
        ({"max_observation_age": 0.09}, 0.5, r"max_observation_age=0.09 s .* 0.1 s"),
        ({"max_hold": 0.05}, 0.5, r"max_hold=0.05 s .* 0.1 s"),
    ],
)
def test_time_outs_that_make_no_sense_together_are_refused_at_the_start(
    settings, watchdog, message
):
    with pytest.raises(ConfigError, match=message):
        check_times(LoopConfig(**settings).resolved(), watchdog)


def test_they_are_refused_before_the_robot_is_connected(tmp_path):
    robot = RealRobot(tmp_path)
    with pytest.raises(ConfigError, match=r"watchdog=0.5 s, .* call_timeout=2 s"):
        run_policy(robot, infer, config(tmp_path, watchdog=0.5))
    assert robot.calls == []
    run_policy(robot, infer, config(tmp_path, watchdog=0.5, dry_run=True))  # nothing can move
    assert robot.sent == []


def test_the_defaults_make_sense_and_so_does_no_watchdog():
    check_times(LoopConfig().resolved(), 0.5)
    check_times(LoopConfig(max_hold=None).resolved(), 0.16)
    check_times(LoopConfig(call_timeout=10.0).resolved(), None)


def action(velocity, acceleration, kind="joint_position"):
    limits = Limits((-2.0,) * 2, (2.0,) * 2, (2.0, velocity), (4.0, acceleration))
    measured_by = "" if kind == "joint_velocity" else "x"
    return ActionSpec(("a", "b"), measured_by=measured_by, kind=kind).with_limits(limits)


@pytest.mark.parametrize(
    ("spec", "seconds", "remedy"),
    [
        (action(1.0, 0.1), 10, "Lower the velocity, raise the acc"),  # velocity / acceleration
        # four times that, and largest value / velocity
        (action(1.0, 1.0, "joint_velocity"), 6, "Raise both, .* or narrow low and high"),
    ],
)
def test_limits_with_which_braking_takes_long_are_refused_at_the_start(spec, seconds, remedy):
    message = rf"may need {seconds} s to brake, .* max_braking=5 s: .* velocity=.* acceleration="
    message += f".* {remedy}.*, or allow it by deploy.max_braking"
    with pytest.raises(ConfigError, match=message):
        check_braking(LoopConfig().resolved(), spec)
    check_braking(LoopConfig(max_braking=1.01 * seconds).resolved(), spec)
    check_braking(LoopConfig().resolved(), action(1.0, 0.2))
    check_braking(LoopConfig().resolved(), action(1.0, 2.0, "joint_velocity"))


def test_that_is_refused_before_the_robot_is_connected(tmp_path):
    robot = RealRobot(tmp_path)
    slow = Limits((-2.0,) * 2, (2.0,) * 2, (1.0,) * 2, (0.1,) * 2)
    robot.spec = replace(robot.spec, limits=slow)
    with pytest.raises(ConfigError, match="may need 10 s to brake"):
        run_policy(robot, infer, config(tmp_path))
    assert robot.calls == []


@pytest.mark.parametrize("name", ["seconds", "watchdog"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0, "30", True])
def test_a_run_of_no_length_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name}={value!r}; it must be a positive number"):
        RunConfig(**{name: value})


@pytest.mark.parametrize("name", ["dry_run", "record"])
@pytest.mark.parametrize("value", ["", None, "no", "maybe", 0, 1])
def test_a_switch_that_is_neither_true_nor_false_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name}={value!r}; it must be true or false"):
        RunConfig(**{name: value})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"loop": {"max_hold": 1.0}}, "loop={'max_hold': 1.0}; it must be a LoopConfig"),
        ({"output": 3}, "output=3; it must be a folder's path, or null"),
    ],
)
def test_a_run_with_settings_of_another_type_is_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig(**setting)


def test_the_output_of_a_run_may_be_a_text():
    assert RunConfig(output="runs/arm").output == Path("runs/arm")


def test_what_inference_has_to_say_is_in_the_report(tmp_path, monkeypatch):
    assert infer().notes == []
    monkeypatch.setattr(ThreadInference, "notes", ["computed on a toaster"])
    report = run_policy(RealRobot(tmp_path), infer, config(tmp_path, output=tmp_path / "run"))
    assert report.notes == ["computed on a toaster"]


# The log ------------------------------------------------------------------------------------------


class Paper(io.StringIO):
    """Notes which thread writes."""

    def __init__(self):
        super().__init__()
        self.writers = set()

    def write(self, text):
        self.writers.add(threading.current_thread().name)
        return super().write(text)


class Closed(io.StringIO):
    def write(self, text):
        raise OSError(5, "Input/output error")


def test_what_is_logged_is_printed_by_another_thread(monkeypatch):
    paper = Paper()
    monkeypatch.setattr(sys, "stdout", paper)
    with printed_log() as log:
        LOGGER.info("RUN: actions are valid, 100% of them")
        log.flush()
        assert paper.getvalue() == "RUN: actions are valid, 100% of them\n"
    assert threading.current_thread().name not in paper.writers
    assert LOGGER.handlers == []


def test_a_closed_terminal_stops_nobody(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Closed())
    with printed_log() as log:
        for line in ("RUN", "STOPPING", "STOPPED"):
            LOGGER.info(line)
        log.flush()


def test_the_control_loop_and_a_dry_run_print_nothing_themselves(capsys):
    robot = VirtualRobot(VirtualClock())
    dry = DryRun(robot)
    dry.command(robot.x)
    dry.stop()
    assert capsys.readouterr().out == ""
