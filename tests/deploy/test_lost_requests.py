"""A server that comes and goes, on the virtual clock: what the loop does with what is lost."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import SPEC_OF_X, VirtualRobot, counting

from dipole.deploy import ControlLoop, LoopConfig, VirtualClock
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.types import Result


class OnAndOff(VirtualInference):
    """A server that is up while `up(t)`: what is asked when it is down, or is on its way when it
    goes, is lost, and that is noticed when it is up again."""

    def __init__(self, clock, delay, up, **options):
        super().__init__(SPEC_OF_X, counting(), clock, delay)
        self._up = up
        self._waiting = []
        self._watch()

    def _watch(self):
        now = self._clock.now()
        if self._up(now):
            for ticket in self._waiting:
                self._answers.append(Result(ticket, None, 0.0, lost=True))
            self._waiting.clear()
        self._clock.call_at(now + 0.05, self._watch)

    def submit(self, request):
        asked = self._clock.now()
        arrives = asked + self._delay(request.ticket)
        if all(self._up(t) for t in np.arange(asked, arrives + 1e-9, 0.01)):
            super().submit(request)
        else:
            self._waiting.append(request.ticket)


def run(up, delay=0.15, seconds=6.0, **settings):
    clock = VirtualClock()
    robot = VirtualRobot(clock)
    inference = OnAndOff(clock, lambda ticket: delay, up)
    config = LoopConfig(control_hz=10.0, max_limited=None, max_approach=None, **settings)
    loop = ControlLoop(robot, inference, config, clock=clock, log=lambda line: None)
    loop.prepare()
    loop.arm()
    return loop.run(seconds), robot


def state_at(report, moment):
    return str([t.state for t in report.transitions if t.time <= moment][-1])


def test_a_server_killed_in_the_middle_of_a_chunk_lets_the_chunk_end_and_then_holds():
    report, robot = run(lambda t: t < 0.5)
    assert robot.actions == list(range(100, 115))  # all of the only chunk, and nothing after
    assert report.transitions[-2].state == "HOLD"
    assert report.transitions[-2].time == pytest.approx(robot.moves[-1][0] + 0.1)
    assert report.counts["slots"] == 60


def test_a_server_that_never_answers_moves_nothing_and_ends_in_a_stop():
    report, robot = run(lambda t: False, max_hold=2.0)
    assert robot.moves == []
    assert report.transitions[-1].reason.startswith("held for 2 s")


def test_why_a_server_is_lost_is_said_once_and_ends_the_hold_that_comes_of_it():
    clock = VirtualClock()
    inference = VirtualInference(SPEC_OF_X, counting(), clock)
    down = "[Errno 111] Connection refused"
    inference.submit = lambda asked: inference._answers.append(
        Result(asked.ticket, None, 0.0, down, lost=True)
    )
    said = []
    config = LoopConfig(control_hz=10.0, max_hold=2.0)
    loop = ControlLoop(VirtualRobot(clock), inference, config, clock=clock, log=said.append)
    loop.prepare()
    loop.arm()
    report = loop.run(6.0)
    reason = f"no chunk from the policy server: {down}"
    assert said.count(reason) == 1
    assert report.transitions[-1].reason == f"held for 2 s: {reason}"


def test_after_a_restart_a_new_chunk_is_asked_for_and_no_old_one_is_replayed():
    report, robot = run(lambda t: not 0.5 <= t < 3.0)
    chunks = [int(action // 100) for action in robot.actions]
    assert chunks == sorted(chunks)
    resumed = next(moment for moment, action in robot.moves if moment > 2.5)
    assert 3.0 <= resumed <= 3.0 + 0.05 + 0.1 + 0.15 + 0.1  # noticed, asked, computed, next slot
    assert report.counts["requests_lost"] >= 1
    assert state_at(report, 2.5) == "HOLD"


def test_a_short_outage_costs_no_hold():
    report, robot = run(lambda t: not 1.0 <= t < 1.3)
    assert [str(t.state) for t in report.transitions].count("HOLD") == 1  # before the first chunk
    assert report.counts["requests_lost"] >= 1
    assert report.counts["starved"] == 0
    assert len({action // 100 for action in robot.actions}) > 3


def test_an_outage_now_and_then_is_the_same_run_for_the_same_seed():
    def once():
        down = np.random.default_rng(3).uniform(0, 20, 12)
        up = lambda t: not ((t >= down) & (t < down + 0.7)).any()  # noqa: E731
        report, robot = run(up, seconds=20.0)
        return report.to_dict(), robot.actions

    assert once() == once()


def test_delays_of_up_to_five_seconds_and_outages_block_no_slot_and_bring_nothing_old_back():
    rng = np.random.default_rng(11)
    down = rng.uniform(0, 60, 8)
    clock = VirtualClock()
    robot = VirtualRobot(clock)

    def up(moment):
        return not ((moment >= down) & (moment < down + 1.5)).any()

    inference = OnAndOff(clock, lambda ticket: float(rng.choice([0.05, 0.3, 1.2, 5.0])), up)
    config = LoopConfig(
        control_hz=10.0, max_limited=None, max_approach=None, max_hold=None, inference_timeout=1.0
    )
    loop = ControlLoop(robot, inference, config, clock=clock, log=lambda line: None)
    loop.prepare()
    loop.arm()
    report = loop.run(60.0)
    chunks = [int(action // 100) for action in robot.actions]
    assert chunks == sorted(chunks)
    assert report.counts["slots"] == 600
    assert report.counts["missed_slots"] == 0
    assert report.counts["requests_lost"] > 0
    assert report.counts["chunks_late"] + report.counts["chunks_out_of_order"] > 3
    assert report.counts["chunks_accepted"] > 10
