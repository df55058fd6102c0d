"""Who computes chunks: warming up, and processes that die or are given up. Without torch."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dipole.deploy import VirtualClock
from dipole.deploy.inference import process
from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.inference.process import ProcessInference
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.inference.worker import InferenceWorker, ThreadInference
from dipole.deploy.types import Result

sys.path.insert(0, str(Path(__file__).parent / "support"))
import real_processes
from real_processes import SPEC
from virtual_robot import counting

OBSERVATION = {"x": np.zeros((2, 2), np.float32)}


def inference_processes():
    return [p for p in multiprocessing.active_children() if p._target is process._compute]


# Warming up -------------------------------------------------------------------------------------


def test_warming_up_computes_with_what_is_known_as_well_and_says_how_long_each_chunk_took():
    seen = []

    def compute(ticket, observation, known=None):
        seen.append(known)
        time.sleep(0.02 if known else 0.0)
        return counting()(ticket, observation)

    inference = ThreadInference(SPEC, compute)
    seconds = inference.warm_up(OBSERVATION, 2, {"values": 7})
    inference.close()
    assert seen == [None, None, {"values": 7}, {"values": 7}]
    assert len(seconds) == 4
    assert min(seconds[2:]) >= 0.02


def test_on_the_virtual_clock_warming_up_says_the_delays_and_takes_no_time():
    clock = VirtualClock()
    inference = VirtualInference(SPEC, counting(), clock, delay=0.7)
    assert inference.warm_up(OBSERVATION, 3) == [0.7, 0.7, 0.7]
    assert inference.warm_up(OBSERVATION, 1, {"values": 7}) == [0.7, 0.7]
    assert clock.now() == 0.0


def test_a_request_that_is_lost_while_warming_up_is_made_again():
    results = iter([{"lost": True, "error": "the network"}, {}, {}])
    inference = InferenceWorker(lambda request: Result(request.ticket, None, 0.5, **next(results)))
    assert inference.warm_up(OBSERVATION, 2) == [0.5, 0.5]
    inference.close()


# Processes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [InferenceDied, KeyboardInterrupt])
def test_a_process_that_is_given_up_before_it_is_ready_is_ended(monkeypatch, problem):
    def given_up(_pipe, _seconds):
        if problem is KeyboardInterrupt:
            raise KeyboardInterrupt
        return False  # nothing came in time

    monkeypatch.setattr(process.Connection, "poll", given_up)
    with pytest.raises(problem):
        ProcessInference(partial(time.sleep, 600))
    assert not inference_processes()


def test_two_threads_that_notice_a_death_at_once_both_learn_the_exit_code(monkeypatch):
    waitpid, said = os.waitpid, []

    def slowly(pid, options):
        found = waitpid(pid, options)
        time.sleep(0.1 if found[0] else 0.0)  # it is reaped, and its exit code is not kept yet
        return found

    inference = ProcessInference(real_processes.quick)
    monkeypatch.setattr(os, "waitpid", slowly)
    os.kill(inference.pid, signal.SIGKILL)
    threads = [
        threading.Thread(target=lambda: said.append(str(inference._cause()))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    inference.close()
    assert len(said) == 2
    assert all("exit code -9" in line for line in said)
