"""The robot's calls: timed, forbidden after a stop, and watched while they last."""

import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dipole.deploy import RealClock, VirtualClock
from dipole.deploy.safety import supervisor as module
from dipole.deploy.safety.supervisor import Monitor, RobotFault, Supervisor

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import VirtualRobot

ACTION = np.array([1.0, 2.0])
WAIT = 30.0


class Blocking(VirtualRobot):
    """Its command() returns when it is let go."""

    def __init__(self):
        super().__init__(RealClock())
        self.entered, self.go = threading.Event(), threading.Event()
        self.told = []

    def command(self, action):
        self.told.append("command begins")
        self.entered.set()
        self.go.wait(WAIT)
        self.told.append("command ends")

    def stop(self):
        self.told.append("stop")


def supervised(robot, call_timeout=WAIT):
    supervisor = Supervisor(robot, robot.clock, call_timeout, stop_timeout=WAIT)
    supervisor.connect()
    return supervisor


def in_thread(call):
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def wait_until(condition):
    for _ in range(int(WAIT / 0.005)):
        if condition():
            return
        threading.Event().wait(0.005)
    pytest.fail("it never came")


@pytest.mark.parametrize("end", ["forbid", "stop", "close"])
def test_what_is_not_sent_is_not_said_to_be_sent(end):
    robot = VirtualRobot(VirtualClock())
    supervisor = supervised(robot)
    assert supervisor.command(ACTION) is True
    assert supervisor.hold() is True
    getattr(supervisor, end)()
    assert supervisor.command(ACTION) is False
    assert supervisor.hold() is False
    assert robot.actions == [1.0]
    assert robot.calls.count("hold") == 1


def test_a_stop_comes_after_the_command_in_progress():
    robot = Blocking()
    supervisor = supervised(robot)
    sender = in_thread(lambda: supervisor.command(ACTION))
    robot.entered.wait(WAIT)
    stopper = in_thread(supervisor.stop)
    wait_until(lambda: supervisor._forbidden)
    robot.go.set()
    sender.join(WAIT)
    stopper.join(WAIT)
    assert robot.told == ["command begins", "command ends", "stop"]


def test_a_command_that_returns_only_after_the_stop_is_followed_by_another_stop():
    robot = Blocking()
    supervisor = supervised(robot, call_timeout=0.05)
    faults = []

    def send():
        with pytest.raises(RobotFault, match=r"command\(\) took"):
            supervisor.command(ACTION)
        faults.append("told")

    sender = in_thread(send)
    robot.entered.wait(WAIT)
    assert supervisor.stop() is True
    robot.go.set()
    sender.join(WAIT)
    assert robot.told == ["command begins", "stop", "command ends", "stop"]
    assert faults == ["told"]


def test_whoever_watches_is_told_how_long_a_stop_may_take():
    robot, told = VirtualRobot(VirtualClock()), []
    supervisor = Supervisor(robot, robot.clock, 0.1, 1.5, stopping=told.append)
    supervisor.connect()
    supervisor.stop()
    supervisor.stop()
    assert told == [pytest.approx(1.6)]


class HalfConnected(VirtualRobot):
    """Its connect() raises after the motors were enabled; close(): what it does then."""

    def __init__(self, error, close=lambda: None):
        super().__init__(VirtualClock())
        self.error, self.closing = error, close

    def connect(self):
        self.calls.append("motors enabled")
        raise self.error

    def close(self):
        self.calls.append("close")
        self.closing()


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError, RobotFault), (KeyboardInterrupt, KeyboardInterrupt)]
)
def test_a_connection_that_fails_half_way_is_closed_once(error, raised):
    robot = HalfConnected(error)
    supervisor = Supervisor(robot, robot.clock, 0.1, stop_timeout=WAIT)
    with pytest.raises(raised):
        supervisor.connect()
    supervisor.close()
    assert robot.calls == ["motors enabled", "close"]


@pytest.mark.parametrize(
    ("closing", "problem"),
    [
        (threading.Event().wait, r"it did not return within 0\.01 s"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_closing_after_a_failed_connection_hides_nothing_and_is_not_hidden(
    closing, problem, monkeypatch
):
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    robot = HalfConnected(OSError("no camera"), closing)
    supervisor = Supervisor(robot, robot.clock, 0.1, stop_timeout=WAIT)
    both = (
        rf"connect\(\) raised OSError: no camera; its close\(\) did not succeed either: {problem}"
    )
    with pytest.raises(RobotFault, match=both) as fault:
        supervisor.connect()
    assert fault.value.call == "connect"


class Closing(VirtualRobot):
    """Its close() does what it is given."""

    def __init__(self, close):
        super().__init__(VirtualClock())
        self.close = close


def test_a_close_may_take_longer_than_a_stop():
    closed = threading.Event()
    supervisor = Supervisor(Closing(closed.set), VirtualClock(), 0.1, stop_timeout=1e-9)
    supervisor.connect()
    assert supervisor.close() == supervisor.close() == ""
    assert closed.is_set()


def test_a_close_that_raises_is_said(caplog):
    supervisor = supervised(Closing(lambda: 1 / 0))
    assert supervisor.close() == "ZeroDivisionError: division by zero"
    assert supervisor.stuck == ""
    [said] = caplog.messages
    assert said.startswith("the robot's close() did not succeed: ZeroDivisionError: division by ze")


def test_a_close_that_has_not_returned_is_stuck_until_it_does(monkeypatch):
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    go = threading.Event()
    supervisor = supervised(Closing(lambda: go.wait(WAIT)))
    assert supervisor.close() == "it did not return within 0.01 s"
    assert supervisor.stuck == "close"
    go.set()
    wait_until(lambda: supervisor.stuck == "")


# The monitor --------------------------------------------------------------------------------------


def watched(call=None, doing=None, now=10.0):
    """A control loop in the middle of something, at time `now`; what it is told."""
    faults, told = [], threading.Event()

    def fault(reason):
        faults.append(reason)
        told.set()

    guard = SimpleNamespace(call=call, call_timeout=0.5)
    clock = SimpleNamespace(now=lambda: now)
    return SimpleNamespace(supervisor=guard, clock=clock, doing=doing, fault=fault), faults, told


def test_a_part_of_a_slot_that_never_ends_is_a_fault():
    loop, faults, told = watched(doing=("submit", 9.25))
    with Monitor(loop):
        assert told.wait(WAIT)
    assert faults == ["the control loop's submit has lasted 0.75 s (call_timeout)"]


def test_a_call_of_the_robot_that_never_returns_is_named():
    loop, faults, told = watched(call=("command", 9.0), doing=("slot", 9.0))
    with Monitor(loop):
        assert told.wait(WAIT)
    assert faults == ["the robot's command() has not returned for 1.00 s (call_timeout)"]


def test_a_loop_that_sleeps_or_is_within_its_time_is_left_alone():
    for doing in (None, ("plan", 9.75)):
        loop, faults, _ = watched(doing=doing)
        monitor = Monitor(loop)
        assert monitor._overdue() == ""
        assert faults == []


def test_a_computer_that_was_suspended_is_a_fault(monkeypatch):
    loop, faults, told = watched()
    monitor = Monitor(loop)
    before = module.suspended()
    monkeypatch.setattr(module, "suspended", lambda: before + 60.0)
    with monitor:
        assert told.wait(WAIT)
    assert faults == ["the computer was suspended for 60.0 s"]
