"""The control loop with a policy server that dies, stays away, stops, or answers late and twice."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dipole.deploy import ControlLoop, LoopConfig, State
from dipole.deploy.loop.watched import run_watched
from dipole.deploy.wire.websocket import ClientConfig

sys.path.insert(0, str(Path(__file__).parent / "support"))
from client_requests import GREETING
from faulty_server import FaultyServer
from real_processes import RealRobot
from real_server import Running, running, wait_until
from ticker import Ticker


def start_loop(folder, inference, **settings):
    patient = {
        "max_limited": None,
        "max_approach": None,
        "max_observation_age": 20.0,
        "call_timeout": 20.0,
    }
    loop = ControlLoop(RealRobot(folder), inference, LoopConfig(**patient | settings),
                       log=lambda line: None)  # fmt: skip
    loop.prepare()
    loop.arm()
    return loop


def in_background(loop, seconds):
    thread = threading.Thread(target=loop.run, args=(seconds,))
    thread.start()
    wait_until(lambda: loop.states.state is State.RUN)
    return thread


def test_a_server_that_dies_is_held_through_and_nothing_old_is_replayed(client, tmp_path):
    first = Running()
    loop = start_loop(tmp_path, client(first.address), max_hold=None)
    thread = in_background(loop, 60.0)
    first.stop()
    wait_until(lambda: loop.states.state is State.HOLD)
    robot = loop.supervisor._robot
    wait_until(lambda: len({tuple(action) for _, action in robot.sent[-30:]}) == 1)  # it holds
    moved, newest = len(robot.moves), robot.sent[-1][1][0] // 100
    with running(port=first.port):
        wait_until(lambda: len(robot.moves) > moved + 20)
    loop.request_stop("done")
    thread.join(20)
    assert loop.report.counts["requests_lost"] >= 1
    chunks = [(action[0] + 1) // 100 for _, action in robot.moves]
    assert chunks == sorted(chunks)
    assert chunks[moved + 10] > newest  # and moves on by a chunk that was asked for later
    loop.close()


def test_a_server_that_stays_away_ends_in_a_stop_within_the_holds_bound(client, tmp_path):
    server = Running()
    loop = start_loop(tmp_path, client(server.address), max_hold=0.5)
    thread = in_background(loop, 60.0)
    server.stop()
    thread.join(30)
    assert loop.states.state is State.STOPPED
    assert loop.states.reason.startswith("held for 0.5 s")
    assert loop.report.stopped is True
    loop.close()


@pytest.mark.heavy
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_process_that_is_killed_or_stopped_blocks_no_slot(fault, client, tmp_path):
    command = [sys.executable, str(Path(__file__).parent / "support" / "serve_counting.py"), "0"]
    terms = ClientConfig(ping_interval=5.0, ping_timeout=5.0)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = f"ws://127.0.0.1:{process.stdout.readline().strip()}"
            inference = client(address, config=terms)
            loop = start_loop(tmp_path, inference)
            threading.Timer(0.5, os.kill, (process.pid, fault)).start()
            with Ticker() as ticker:
                report = run_watched(loop, 5.0)
        finally:
            process.kill()
    assert "HOLD" in [str(t.state) for t in report.transitions]
    late = report.samples["lateness"].maximum  # a slot that waited would wait for 10 s
    assert late < 2.0 + ticker.longest
    assert report.stopped is True
    assert report.to_dict()["state"] == "STOPPED"
    loop.close()


@pytest.mark.heavy
def test_delay_jitter_reordering_and_duplicates_on_the_wire_bring_no_old_chunk_back(
    client, tmp_path
):
    rng = np.random.default_rng(0)
    held_back = []

    def answers(number, good):
        time.sleep(float(rng.uniform(0, 0.5) if rng.random() < 0.8 else rng.uniform(1, 2.5)))
        held_back.append(good)
        order = [held_back[i] for i in rng.permutation(len(held_back))[:3]]
        return [*order, good, good] if rng.random() < 0.9 else order[:1]

    with FaultyServer(GREETING, answers) as server:
        quick = ClientConfig(answer_timeout=1.0, ping_interval=5.0, ping_timeout=5.0)
        loop = start_loop(tmp_path, client(server.address, config=quick), inference_timeout=1.0)
        with Ticker() as ticker:
            report = run_watched(loop, 5.0)
    chunks = [round(action[0] // 100) for _, action in loop.supervisor._robot.sent]
    assert chunks == sorted(chunks)
    assert len(set(chunks)) >= 3
    late = report.samples["lateness"].maximum  # an answer is waited for one second
    assert late < 1.0 + ticker.longest
    loop.close()
