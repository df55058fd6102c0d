"""Inference, loop and terminal for real: processes, threads, kills. Nothing here has torch."""

import os
import re
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy import State
from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.inference.process import ProcessInference
from dipole.deploy.inference.worker import InferenceWorker, ThreadInference
from dipole.deploy.loop.states import StateError
from dipole.deploy.loop.watched import run_watched
from dipole.deploy.types import Request, Result, Ticket

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent / "support"))
import real_processes
import stop_by_signal
from real_processes import SPEC, RealRobot, make_real_loop
from real_server import wait_until
from ticker import Ticker
from virtual_robot import counting

OBSERVATION = {"x": np.zeros((2, 2), np.float32)}


def request(number):
    return Request(Ticket(number, 0, 0.0, 0), OBSERVATION)


def answer(inference, seconds=20.0):
    deadline = time.monotonic() + seconds
    while (result := inference.poll()) is None:
        assert time.monotonic() < deadline, "no answer came"
        time.sleep(0.002)
    return result


@pytest.fixture
def inference(request):
    made = ProcessInference(request.param)
    yield made
    made.close()


# Inference ------------------------------------------------------------------------------------


def test_a_thread_computes_what_it_is_asked_for():
    inference = ThreadInference(SPEC, counting())
    inference.warm_up(OBSERVATION, 2)
    inference.submit(request(3))
    result = answer(inference)
    assert result.ticket.chunk_id == 3
    assert result.answer["action"][1, 0] == 300.0
    inference.close()


def test_a_request_that_waits_is_replaced_by_a_newer_one():
    started, go_on, seen = threading.Event(), threading.Event(), []

    def exchange(request):
        seen.append(request.ticket.chunk_id)
        started.set()
        go_on.wait(10)
        return Result(request.ticket, None, 0.0)

    courier = InferenceWorker(exchange)
    courier.submit(request(1))
    started.wait(10)
    courier.submit(request(2))
    courier.submit(request(3))
    go_on.set()
    assert [answer(courier).ticket.chunk_id for _ in range(2)] == [1, 3]
    assert seen == [1, 3]
    courier.close()


def test_running_out_of_memory_is_a_death_with_its_cause():
    inference = ThreadInference(*real_processes.raising(MemoryError()))
    with pytest.raises(InferenceDied, match="out of memory"):
        inference.warm_up(OBSERVATION, 1)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks /proc what it has")
@pytest.mark.parametrize("inference", [real_processes.memory_hungry], indirect=True)
def test_a_process_that_really_runs_out_of_memory_is_a_death(inference):
    inference.submit(request(1))
    assert answer(inference).error == ""
    inference.submit(request(2))
    with pytest.raises(InferenceDied, match="exit code 1"):
        answer(inference)


@pytest.mark.parametrize("inference", [real_processes.quick], indirect=True)
def test_a_process_computes_and_its_death_is_noticed_without_a_request(inference):
    inference.warm_up(OBSERVATION, 1)
    inference.submit(request(5))
    assert answer(inference).answer["action"][1, 0] == 500.0
    os.kill(inference.pid, signal.SIGKILL)
    with pytest.raises(InferenceDied, match="exit code -9"):
        answer(inference)


@pytest.mark.parametrize("inference", [partial(real_processes.slow, 10.0)], indirect=True)
def test_asking_a_slow_process_takes_no_time(inference):
    started = time.monotonic()
    inference.submit(request(1))
    assert inference.poll() is None
    assert time.monotonic() - started < 5.0


@pytest.mark.parametrize(
    "inference", [partial(real_processes.raising, ValueError("odd"))], indirect=True
)
def test_an_error_in_the_process_is_an_answer_and_not_its_death(inference):
    for number in (1, 2):
        inference.submit(request(number))
        assert answer(inference).error == "ValueError('odd')"


def test_a_process_that_cannot_begin_says_why():
    with pytest.raises(ConfigError, match="no such checkpoint"):
        ProcessInference(real_processes.refusing)


# The loop ---------------------------------------------------------------------------------------

# For a machine that pauses: of calls that return, and of those that never do.
PATIENT = {"call_timeout": 5.0, "max_observation_age": 5.0}
STUCK = {"call_timeout": 2.0, "max_observation_age": 5.0}


@pytest.mark.slow
def test_the_loop_keeps_its_deadlines_beside_slow_inference(tmp_path):
    loop = make_real_loop(tmp_path, partial(real_processes.slow, 0.2), **PATIENT)
    loop.prepare()
    loop.arm()
    with Ticker() as ticker:
        report = run_watched(loop, 3.0)
    loop.close()
    assert loop.states.state is State.STOPPED
    computed = report.samples["inference"].count  # one may be in work; the warm-up does not count
    assert report.counts["requests"] - computed in (0, 1)
    assert report.samples["inference"].summary()["p50"] > 0.2
    # A loop that waited for each chunk would miss 20 slots every time, and begin the next one late.
    assert computed >= 2
    assert report.counts["missed_slots"] - ticker.slots < 20 * computed
    assert report.samples["lateness"].summary()["p50"] < 0.01 + ticker.median
    assert (tmp_path / "stopped").exists()


def test_an_inference_process_that_dies_is_a_fault_and_the_robot_is_stopped(tmp_path):
    loop = make_real_loop(tmp_path, partial(real_processes.dying, 2), **PATIENT)
    loop.prepare()
    loop.arm()
    report = run_watched(loop, 20.0)
    loop.close()
    assert loop.states.state is State.FAULT
    assert "exit code 7" in loop.states.reason
    assert report.stopped is True


@pytest.mark.heavy
def test_a_write_that_never_returns_is_a_fault_and_nothing_is_sent_after_it(tmp_path):
    stuck = threading.Event()
    robot = RealRobot(tmp_path, fault=lambda n: stuck.wait(30) if n == 20 else None)
    loop = make_real_loop(tmp_path, robot=robot, **STUCK)
    loop.prepare()
    loop.arm()
    report = run_watched(loop, 20.0)
    assert loop.states.state is State.FAULT
    # Of the call or of its part of the slot, which began just before: whichever is looked at first.
    said = r"robot's command\(\) has not returned|control loop's command has lasted"
    assert re.search(said, loop.states.reason)
    assert report.stopped is True
    assert "still stuck" in str(report)
    assert not stuck.is_set()
    stuck.set()
    loop.close()
    assert len(robot.sent) <= 21  # the stuck one at most, after which nothing is sent


@pytest.mark.heavy
def test_asking_for_a_chunk_that_blocks_is_a_fault_too(tmp_path):
    stuck = threading.Event()
    loop = make_real_loop(tmp_path, **STUCK)
    loop.prepare()
    loop._inference.submit = lambda request: stuck.wait(30)
    loop.arm()
    report = run_watched(loop, 20.0)
    assert loop.states.state is State.FAULT
    assert "(call_timeout)" in loop.states.reason
    assert report.stopped is True
    assert (tmp_path / "stopped").exists()
    assert not stuck.is_set()
    stuck.set()
    loop.close()


class Stuck(RealRobot):
    """In the first run one of its calls is stuck until it is let go; it notes who commands."""

    def __init__(self, folder, where):
        super().__init__(folder)
        self.where, self.run = where, 0
        self.stuck, self.go = threading.Event(), threading.Event()
        self.commanding = {}

    def connect(self):
        super().connect()
        self.run += 1
        self.commanding[self.run] = set()

    def wait(self, where):
        if self.where == where and self.run == 1 and len(self.sent) > 20 and not self.go.is_set():
            self.waiting = threading.current_thread()
            self.stuck.set()
            self.go.wait(30)

    def observe(self):
        self.wait("observe")
        return super().observe()

    def command(self, action):
        run = self.run
        self.wait("command")
        self.commanding[run].add(threading.current_thread())  # its number may be used again
        super().command(action)


@pytest.mark.heavy
def test_after_a_command_that_is_still_stuck_no_other_run_begins(tmp_path):
    robot = Stuck(tmp_path, "command")
    loop = make_real_loop(tmp_path, robot=robot, **STUCK)
    loop.prepare()
    loop.arm()
    run_watched(loop, 20.0)
    with pytest.raises(StateError, match=r"command\(\) has still not returned"):
        loop.reset()
    robot.go.set()
    wait_until(lambda: loop.supervisor.call is None)
    loop.reset()
    loop.close()


@pytest.mark.heavy
@pytest.mark.parametrize("where", ["observe", "submit"])
def test_a_thread_that_was_stuck_in_the_run_before_does_nothing_in_the_next(tmp_path, where):
    robot = Stuck(tmp_path, where)
    loop = make_real_loop(tmp_path, robot=robot, **STUCK)
    submit = loop._inference.submit
    loop._inference.submit = lambda request: (robot.wait("submit"), submit(request))
    loop.prepare()
    loop.arm()
    first = run_watched(loop, 20.0)
    assert first.transitions[-1].state is State.FAULT
    assert robot.stuck.is_set()
    stuck = robot.waiting
    loop.reset()
    loop.prepare()
    loop.arm()
    threading.Timer(0.5, robot.go.set).start()  # it wakes up while the next run goes on
    second = run_watched(loop, 2.0)
    stuck.join(30)
    loop.close()
    assert (loop.states.state, loop.states.reason) == (State.STOPPED, "the time is up")
    assert second is not first
    assert "FAULT" not in [str(transition.state) for transition in second.transitions]
    assert stuck not in robot.commanding[2]
    assert len(robot.commanding[2]) == 1


# A run on a terminal of its own -------------------------------------------------------------------

# A busy computer runs a process late: what is tested here is what happens, not how soon.
TERMS = stop_by_signal.Terms(call_timeout=2.0, watchdog=4.0)


def on_terminal(event, folder, tries=3):
    """A pause of the machine may end a run before its event: then there is another."""
    try:
        (folder / str(tries)).mkdir()
        trial = stop_by_signal.trial(event, TERMS, folder / str(tries))
    except stop_by_signal.NoTrialError:
        if tries == 1:
            raise
        return on_terminal(event, folder, tries - 1)
    assert (
        trial.seconds < stop_by_signal.LONGEST_SECONDS
    )  # the robot drives on unless it is stopped
    assert trial.late_commands == 0
    assert trial.left == 0
    return trial


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("terminal closed", "SIGHUP"),
        ("Ctrl-\\", "SIGQUIT"),
        ("Ctrl-Z", "SIGTSTP"),
        ("Ctrl-C", "SIGINT"),
        ("SIGTERM", "SIGTERM"),
    ],
)
def test_every_signal_takes_the_way_of_every_stop(tmp_path, event, reason):
    trial = on_terminal(event, tmp_path)
    assert (trial.stopped_by, trial.state, trial.reason) == ("loop", "STOPPED", reason)


def test_killing_the_loop_makes_the_watchdog_stop_the_robot(tmp_path):
    trial = on_terminal("kill -9 loop", tmp_path)
    assert (trial.stopped_by, trial.state) == ("watchdog", "")


def test_killing_inference_makes_the_loop_stop_the_robot(tmp_path):
    trial = on_terminal("kill -9 inference", tmp_path)
    assert (trial.stopped_by, trial.state) == ("loop", "FAULT")
    assert "exit code -9" in trial.reason


def test_killing_the_watchdog_makes_the_loop_stop_the_robot(tmp_path):
    trial = on_terminal("kill -9 watchdog", tmp_path)
    assert (trial.stopped_by, trial.state) == ("loop", "FAULT")
    assert "the watchdog's process" in trial.reason


@pytest.mark.heavy
def test_a_loop_that_was_stopped_and_goes_on_sends_nothing_more(tmp_path):
    trial = on_terminal("kill -STOP loop", tmp_path)
    assert (trial.stopped_by, trial.state) == ("both", "FAULT")
    assert "the watchdog stopped the robot: no heartbeat for 4 s" in trial.reason
