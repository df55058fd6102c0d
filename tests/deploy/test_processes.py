"""Inference, watchdog and signals for real: processes, threads, kills. Nothing here has torch."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dipole.data.errors import ConfigError
from dipole.deploy import State
from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.inference.process import ProcessInference
from dipole.deploy.inference.worker import InferenceWorker, ThreadInference
from dipole.deploy.loop.watched import run_watched
from dipole.deploy.safety.watchdog import Watchdog, WatchdogFired
from dipole.deploy.types import Request, Result, Ticket

sys.path.insert(0, str(Path(__file__).parent / "support"))
import real_processes
from real_processes import SPEC, RealRobot, make_real_loop
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


def wait_for(path, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.005)


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


@pytest.mark.parametrize("inference", [real_processes.quick], indirect=True)
def test_a_process_computes_and_its_death_is_noticed_without_a_request(inference):
    inference.warm_up(OBSERVATION, 1)
    inference.submit(request(5))
    assert answer(inference).answer["action"][1, 0] == 500.0
    os.kill(inference.pid, signal.SIGKILL)
    with pytest.raises(InferenceDied, match="exit code -9"):
        answer(inference)


@pytest.mark.parametrize("inference", [partial(real_processes.slow, 1.0)], indirect=True)
def test_asking_a_slow_process_takes_no_time(inference):
    started = time.monotonic()
    inference.submit(request(1))
    assert inference.poll() is None
    assert time.monotonic() - started < 0.5


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


@pytest.mark.slow
def test_the_loop_keeps_its_deadlines_beside_slow_inference(tmp_path):
    loop = make_real_loop(tmp_path, partial(real_processes.slow, 0.2))
    loop.prepare()
    loop.arm()
    report = run_watched(loop, 3.0)
    loop.close()
    assert loop.states.state is State.STOPPED
    assert report.counts["slots"] + report.counts["missed_slots"] in range(298, 302)
    assert report.counts["starved"] == 0
    assert report.samples["inference"].summary()["p50"] > 0.2
    computed = report.samples["inference"].count  # one may be in work; the warm-up does not count
    assert report.counts["requests"] - computed in (0, 1)
    assert (tmp_path / "stopped").exists()


def test_an_inference_process_that_dies_is_a_fault_and_the_robot_is_stopped(tmp_path):
    loop = make_real_loop(tmp_path, partial(real_processes.dying, 2))
    loop.prepare()
    loop.arm()
    report = run_watched(loop, 20.0)
    loop.close()
    assert loop.states.state is State.FAULT
    assert "exit code 7" in loop.states.reason
    assert report.stopped is True


def test_a_write_that_never_returns_is_a_fault_within_its_deadline(tmp_path):
    stuck = threading.Event()
    robot = RealRobot(tmp_path, fault=lambda n: stuck.wait(30) if n == 20 else None)
    loop = make_real_loop(tmp_path, robot=robot, call_timeout=0.3)
    loop.prepare()
    loop.arm()
    started = time.monotonic()
    report = run_watched(loop, 20.0)
    took = time.monotonic() - started
    assert loop.states.state is State.FAULT
    assert "command() has not returned" in loop.states.reason
    assert report.stopped is True
    assert "still stuck" in str(report)
    assert took < 10.0
    stuck.set()
    loop.close()
    assert len(robot.sent) <= 21  # the stuck one at most, after which nothing is sent


# The watchdog -----------------------------------------------------------------------------------


def test_the_watchdog_stops_the_robot_when_the_heartbeat_ends(tmp_path):
    watchdog = Watchdog(partial(real_processes.touch, tmp_path / "stopped"), timeout=0.2)
    watchdog.beat()
    wait_for(tmp_path / "stopped")
    assert watchdog.fired
    with pytest.raises(WatchdogFired, match=r"no heartbeat for 0.2 s"):
        watchdog.beat()
    watchdog.close()


def test_a_watchdog_that_is_closed_stops_nothing(tmp_path):
    watchdog = Watchdog(partial(real_processes.touch, tmp_path / "stopped"), timeout=0.5)
    watchdog.beat()
    watchdog.close()
    time.sleep(0.8)
    assert not (tmp_path / "stopped").exists()


@pytest.fixture
def program(tmp_path):
    """A control loop that is running in a process of its own, and where it writes."""
    command = [sys.executable, real_processes.__file__, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(tmp_path / "running", 60.0)
        yield process, tmp_path
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_the_way_of_every_stop(program, number):
    process, folder = program
    process.send_signal(number)
    assert process.wait(20) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["state"] == "STOPPED"
    assert report["reason"] == signal.Signals(number).name
    assert report["stopped"] is True
    assert not (folder / "stopped_by_watchdog").exists()


@pytest.mark.slow
def test_killing_the_loop_makes_the_watchdog_stop_the_robot(program):
    process, folder = program
    process.kill()
    wait_for(folder / "stopped_by_watchdog", 10.0)
    assert not (folder / "stopped").exists()


@pytest.mark.slow
def test_killing_inference_makes_the_loop_stop_the_robot(program):
    process, folder = program
    os.kill(int((folder / "inference_pid").read_text()), signal.SIGKILL)
    assert process.wait(20) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["state"] == "FAULT"
    assert "exit code -9" in report["reason"]
    assert (folder / "stopped").exists()


@pytest.mark.slow
def test_a_loop_that_was_stopped_and_goes_on_finds_that_the_watchdog_has_stopped_the_robot(program):
    process, folder = program
    process.send_signal(signal.SIGSTOP)
    wait_for(folder / "stopped_by_watchdog", 10.0)
    process.send_signal(signal.SIGCONT)
    assert process.wait(20) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["state"] == "FAULT"
    assert "no heartbeat" in report["reason"]
