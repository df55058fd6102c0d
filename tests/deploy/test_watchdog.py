"""The watchdog: a process of its own that stops the robot, and is itself watched."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy.safety import watchdog as module
from dipole.deploy.safety.watchdog import Watchdog, WatchdogDied, WatchdogError, WatchdogFired

sys.path.insert(0, str(Path(__file__).parent / "support"))
import stoppers

LONG = 60.0  # more than any test takes


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


@pytest.fixture
def watch(tmp_path):
    """Makes watchdogs whose stopper leaves the file `stopped`."""
    made = []

    def make(timeout=LONG, stopper=None):
        made.append(Watchdog(stopper or partial(stoppers.touch, tmp_path / "stopped"), timeout))
        return made[-1]

    yield make
    for watchdog in made:
        watchdog.close()


def test_it_stops_the_robot_when_the_heartbeat_ends(watch, tmp_path):
    watchdog = watch(timeout=0.2)
    watchdog.beat()
    wait_for((tmp_path / "stopped").exists)
    assert watchdog.fired
    with pytest.raises(WatchdogFired, match=r"no heartbeat for 0.2 s"):
        watchdog.beat()


def test_one_that_is_closed_stops_nothing_and_is_gone(watch, tmp_path):
    watchdog = watch(timeout=2.0)
    watchdog.beat()
    watchdog.close()
    assert watchdog._process.exitcode == 0
    assert not (tmp_path / "stopped").exists()


def test_no_signal_of_a_terminal_ends_it(watch, tmp_path):
    watchdog = watch()
    assert os.getsid(watchdog.pid) == watchdog.pid != os.getsid(0)
    names = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGPIPE"]
    for name in names:
        os.kill(watchdog.pid, getattr(signal, name))
    assert watchdog.stop_robot() is True
    assert (tmp_path / "stopped").exists()


@pytest.mark.parametrize("then", ["exit", "die", "be killed"])
def test_a_program_that_ends_before_its_first_beat_has_its_robot_stopped(tmp_path, then):
    command = [sys.executable, stoppers.__file__, str(tmp_path), then]
    with subprocess.Popen(command) as program:
        wait_for((tmp_path / "watching").exists, 60.0)
        if then == "be killed":
            program.kill()
        wait_for((tmp_path / "stopped").exists)
        assert program.wait(30) == {"exit": 0, "die": 3, "be killed": -9}[then]


def test_a_watchdog_that_was_killed_is_noticed_at_the_next_beat(watch):
    watchdog = watch()
    watchdog.beat()
    os.kill(watchdog.pid, signal.SIGKILL)
    watchdog._process.join(30)
    with pytest.raises(WatchdogDied, match=rf"pid {watchdog.pid}\) has ended"):
        watchdog.beat()
    watchdog.beat()  # the robot is braked, for which commands are sent


def test_a_watchdog_that_hangs_is_noticed(watch):
    watchdog = watch()
    watchdog._stale = 0.3
    os.kill(watchdog.pid, signal.SIGSTOP)
    wait_for(lambda: time.monotonic() - watchdog._memory.look > 0.3)
    with pytest.raises(WatchdogDied, match=r"hangs: its last sign of life is \d+"):
        watchdog.beat()


def test_a_stop_may_take_longer_than_the_time_without_a_beat(watch):
    watchdog = watch(timeout=1.0)
    watchdog.beat()
    watchdog.stopping(LONG)
    last = watchdog._memory.beat
    wait_for(lambda: watchdog._memory.look > last + 2.0)  # twice its timeout
    assert not watchdog.fired


def test_a_stop_that_takes_too_long_is_not_waited_for(watch, tmp_path):
    watchdog = watch(timeout=1.0)
    watchdog.beat()
    watchdog.stopping(1.0)
    wait_for((tmp_path / "stopped").exists)
    stopped = float((tmp_path / "stopped").read_text())
    assert stopped > watchdog._memory.beat + 1.0 + 1.0


def test_a_beat_after_too_long_a_silence_forbids_the_command_that_follows_it(watch):
    watchdog = watch(timeout=0.1)
    os.kill(watchdog.pid, signal.SIGSTOP)  # it cannot have noticed
    watchdog.beat()
    time.sleep(0.2)
    with pytest.raises(WatchdogFired, match=r"no heartbeat for 0.1 s"):
        watchdog.beat()
    assert not watchdog.fired


def test_a_computer_that_was_suspended_counts_as_no_heartbeat(watch, monkeypatch):
    watchdog = watch()
    before = module.suspended()
    monkeypatch.setattr(module, "suspended", lambda: before + 3600.0)
    with pytest.raises(WatchdogFired, match=r"the computer was suspended for 3600.0 s"):
        watchdog.beat()


def test_a_stopper_that_raises_is_tried_again(watch, tmp_path, capfd):
    watchdog = watch(stopper=partial(stoppers.fail_twice, tmp_path))
    assert watchdog.stop_robot() is True
    assert (tmp_path / "calls").read_text() == "xxx"
    failed = "watchdog: the robot's stopper() failed, trying again: OSError: no route to the robot"
    assert capfd.readouterr().err.count(failed) == 2


def test_a_stopper_that_does_not_return_is_tried_again(watch, tmp_path):
    watchdog = watch(stopper=partial(stoppers.block_once, tmp_path))
    assert watchdog.stop_robot() is True
    assert (tmp_path / "calls").read_text() == "xx"


def test_a_stopper_may_hold_shared_memory_as_the_simulated_robots_does(watch):
    flag = multiprocessing.get_context("spawn").RawValue("b", 0)
    watchdog = watch(stopper=partial(stoppers.raise_flag, flag))
    assert watchdog.stop_robot() is True
    assert flag.value == 1


def test_a_stopper_that_cannot_be_sent_is_refused():
    with pytest.raises(WatchdogError, match=r"stopper\(\) returned cannot be sent to another"):
        Watchdog(lambda: None, timeout=LONG)


def test_a_stopper_that_cannot_be_received_is_refused_with_the_reason():
    with pytest.raises(WatchdogError, match=r"unpickled there \(ImportError: no module named the"):
        Watchdog(stoppers.BrokenStopper(), timeout=LONG)


def test_a_process_that_does_not_begin_to_watch_is_refused(monkeypatch):
    monkeypatch.setattr(module, "START_SECONDS", 0.0)
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.1)
    with pytest.raises(WatchdogError, match="it was not watching after 0 s"):
        Watchdog(partial(stoppers.touch, "nowhere"), timeout=LONG)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("inf"), float("nan")])
def test_a_timeout_that_never_comes_is_refused(timeout):
    with pytest.raises(ConfigError, match="the watchdog's timeout is"):
        Watchdog(partial(stoppers.touch, "nowhere"), timeout)
