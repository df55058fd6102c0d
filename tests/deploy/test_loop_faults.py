"""What the loop does when something around it fails, or comes late, on the virtual clock."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.deploy import (
    ActionSpec,
    ControlLoop,
    LoopConfig,
    Reading,
    State,
    VirtualClock,
)
from dipole.deploy.inference import InferenceDied, VirtualInference
from dipole.deploy.loop.states import StateError
from dipole.deploy.recording.recorder import NoRecorder
from dipole.deploy.safety import supervisor
from dipole.deploy.safety.command_filter import Command
from dipole.deploy.safety.command_gate import CommandGate
from dipole.deploy.safety.supervisor import RobotFault
from dipole.deploy.types import Result

sys.path.insert(0, str(Path(__file__).parent / "support"))
from measured_arm import CALM, MeasuredArm, loop_of, moving, velocities
from virtual_robot import VirtualRobot, counting, make_loop, run

# What is told and kept ------------------------------------------------------------------------


def test_a_log_that_raises_ends_no_run_and_stops_no_stop():
    robot = MeasuredArm(VirtualClock())
    loop = loop_of(robot, moving)

    def closed(_line):
        raise BrokenPipeError

    loop._given_log = closed
    report = run(loop, 0.8)
    assert (loop.states.state, loop.states.reason) == (State.STOPPED, "the time is up")
    assert report.stopped is True
    assert loop.wait(0)
    assert report.counts["lines_not_logged"] >= 4
    assert not velocities(robot)[-1].any()


def test_a_log_that_blocks_keeps_no_other_thread_from_stopping_the_robot():
    robot = MeasuredArm(VirtualClock())
    loop = loop_of(robot, moving)
    entered, go = threading.Event(), threading.Event()

    def blocks(line):
        if line.startswith("RUN"):
            entered.set()
            go.wait(20)

    loop._given_log = blocks
    loop.prepare()
    loop.arm()
    thread = threading.Thread(target=loop.run, args=(5.0,))
    thread.start()
    assert entered.wait(20)
    loop.fault("the log blocks")
    assert robot.calls.count("stop") == 1
    assert loop.wait(0)
    go.set()
    thread.join(20)
    assert loop.states.reason == "the log blocks"


def test_a_recorder_that_raises_ends_no_run():
    class Broken(NoRecorder):
        def act(self, *_):
            raise OSError("no space")

        def command(self, *_):
            raise OSError("no space")

        def state(self, _transition):
            raise OSError("no space")

    robot = MeasuredArm(VirtualClock())
    loop = ControlLoop(robot, loop_of(robot, moving)._inference, LoopConfig(), clock=robot.clock,
                       recorder=Broken())  # fmt: skip
    report = run(loop, 0.8)
    assert report.stopped is True
    assert loop.states.reason == "the time is up"
    failed = loop.recorder.failed
    assert failed > 80
    assert f"the recorder raised {failed} times: records are missing" in str(report)


def test_a_heartbeat_that_is_broken_still_lets_the_robot_brake():
    robot = MeasuredArm(VirtualClock())
    loop = loop_of(robot, moving)

    def broken():
        if robot.clock.now() > 0.5:
            raise OSError("no shared memory")

    loop.heartbeat = broken
    loop.prepare()
    loop.arm()
    with pytest.raises(OSError, match="no shared memory"):
        loop.run(5.0)
    assert not velocities(robot)[-1].any()
    assert np.abs(np.diff(velocities(robot), axis=0)).max() <= 4.0 * 0.01 * (1 + 1e-6)
    assert robot.calls[-1] == "stop"


def test_a_sensor_that_raises_still_lets_the_robot_brake():
    robot = MeasuredArm(VirtualClock())
    observe = robot.observe

    def broken():
        if robot.clock.now() > 0.5:
            raise OSError("the cable is out")
        return observe()

    robot.observe = broken
    loop = loop_of(robot, moving)
    run(loop, 5.0)
    assert loop.states.reason == "the robot's observe() raised OSError: the cable is out"
    assert np.abs(velocities(robot)).max() > 0.3
    assert not velocities(robot)[-1].any()
    assert np.abs(np.diff(velocities(robot), axis=0)).max() <= 4.0 * 0.01 * (1 + 1e-6)


# Chunks -------------------------------------------------------------------------------------------


def test_a_request_without_an_answer_is_asked_again_after_its_timeout():
    loop, robot = make_loop(delay=lambda t: 0.0 if t.chunk_id != 2 else np.inf,
                            inference_timeout=0.35)  # fmt: skip
    report = run(loop, 2.0)
    # chunk 2 is asked for at 0.8 and given up at 1.2: chunk 3 is there long before 1 is finished
    assert report.counts["inference_timeouts"] == 1
    assert report.counts["starved"] == 0
    assert 300 <= robot.actions[12] < 400


def test_a_late_error_of_an_abandoned_request_does_not_clear_a_valid_plan():
    loop, _ = make_loop(delay=lambda t: 0.0 if t.chunk_id != 2 else np.inf,
                            inference_timeout=0.35)  # fmt: skip
    submit = loop._inference.submit

    def spy(request):
        submit(request)
        if request.ticket.chunk_id == 2:
            error = Result(request.ticket, None, 0.6, "out of memory")
            loop._inference.deliver(error, 0.6)

    loop._inference.submit = spy
    report = run(loop, 2.0)
    assert report.counts["chunks_refused"] == 1
    assert report.counts["starved"] == 0
    assert report.counts["holds"] == 0


def test_a_chunk_that_came_too_late_is_called_late():
    loop, _ = make_loop(delay=1.2, max_hold=4.0, inference_timeout=5.0)
    run(loop, 20.0)
    assert "too late" in loop.states.reason
    assert "max_action_lateness is 1 s" in loop.states.reason


@pytest.mark.parametrize(
    ("delay", "lateness", "said"),
    [(1.2, 1.0, "longer than max_action_lateness = 1 s"), (2.0, 3.0, "lasts 1.50 s (15 actions")],
)
def test_inference_slower_than_chunks_are_used_up_is_said_before_arming(delay, lateness, said):
    loop, _ = make_loop(delay=delay, max_action_lateness=lateness)
    loop.prepare()
    assert any(said in line for line in loop.log_lines)
    assert any(said in note for note in loop.report.notes)


def test_answers_are_taken_in_while_observations_are_too_old():
    clock = VirtualClock()
    old = lambda r: Reading(min(clock.now(), 0.5), r.values)  # noqa: E731
    robot = VirtualRobot(clock, look=old)
    loop, _ = make_loop(robot=robot, clock=clock, delay=0.9)
    loop.prepare()
    loop.arm()
    loop.run(3.0)
    assert loop._inference.poll() is None


@pytest.mark.parametrize("steps", [16, 100])
def test_more_action_steps_than_a_chunk_has_are_refused(steps):
    with pytest.raises(ConfigError, match="a chunk of this policy has 15 actions"):
        make_loop(n_action_steps=steps)


@pytest.mark.parametrize("steps", [2.5, True, 0, -1])
def test_action_steps_are_a_whole_positive_number(steps):
    with pytest.raises(ConfigError, match="n_action_steps is"):
        LoopConfig(n_action_steps=steps)


# The last gate --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [([np.nan, 0.0], "finite"), ([0.0], "2 finite numbers"), ([3.5, 0.0], "a is outside its box"),
     ([0.5, 0.0], "a is faster than its limit")],
)  # fmt: skip
def test_what_no_filter_would_make_is_not_sent(values, message):
    gate = CommandGate(ActionSpec(("a", "b"), measured_by="x").with_limits(CALM), 0.01)
    gate.start(np.zeros(2))
    gate.check(Command(np.zeros(2)))
    with pytest.raises(RobotFault, match=message):
        gate.check(Command(np.array(values)))


# The robot's own code -------------------------------------------------------------------------


def is_told(robot, name, does):
    """Has a method of the robot do something else, from its third call on (connect: at once)."""
    method, calls = getattr(robot, name), []

    def told(*arguments):
        calls.append(name)
        if name == "connect" or len(calls) > 2:
            does()
        return method(*arguments)

    setattr(robot, name, told)


def raises():
    raise OSError("the cable is out")


@pytest.mark.parametrize("name", ["observe", "command"])
@pytest.mark.parametrize("how", ["raises", "takes long"])
def test_a_call_that_raises_or_takes_long_is_a_fault_and_the_robot_is_stopped_once(name, how):
    clock = VirtualClock()
    robot = MeasuredArm(clock)
    is_told(robot, name, raises if how == "raises" else lambda: clock.advance(0.5))
    loop = loop_of(robot, moving)
    report = run(loop, 5.0)
    said = "raised OSError: the cable is out" if how == "raises" else "took 0.500 s (call_timeout)"
    assert (loop.states.state, loop.states.reason) == (State.FAULT, f"the robot's {name}() {said}")
    assert robot.calls.count("stop") == 1
    assert report.stopped is True


@pytest.mark.parametrize("how", ["raises", "takes long"])
def test_so_is_a_hold_before_anything_was_commanded(how):
    clock = VirtualClock()
    robot = MeasuredArm(clock, seen_at=lambda now: min(now, 0.0))
    is_told(robot, "hold", raises if how == "raises" else lambda: clock.advance(0.5))
    loop = loop_of(robot, moving)
    loop.prepare()
    loop.arm()
    clock.advance(1.0)  # the joints were measured too long ago: where to begin is not known
    report = loop.run(5.0)
    assert "the robot's hold()" in loop.states.reason
    assert loop.states.state is State.FAULT
    assert robot.sent == []
    assert report.stopped is True


def test_a_connection_that_raises_is_a_fault():
    robot = MeasuredArm(VirtualClock())
    is_told(robot, "connect", raises)
    loop = loop_of(robot)
    with pytest.raises(RobotFault, match=r"connect\(\) raised OSError"):
        loop.prepare()
    assert loop.states.state is State.FAULT


def test_a_stop_that_does_not_return_is_told_and_no_new_run_begins():
    robot, go = MeasuredArm(VirtualClock()), threading.Event()
    robot.stop = lambda: go.wait(20)
    loop = loop_of(robot, moving, stop_timeout=0.1)
    report = run(loop, 0.5)
    assert report.stopped is False
    assert "NOT KNOWN" in str(report)
    with pytest.raises(StateError, match=r"stop\(\) has still not returned"):
        loop.reset()
    go.set()


def test_no_new_run_begins_while_the_robot_is_still_being_closed(monkeypatch):
    monkeypatch.setattr(supervisor, "CLOSE_SECONDS", 0.01)
    robot, go = MeasuredArm(VirtualClock()), threading.Event()
    robot.close = lambda: go.wait(20)
    loop = loop_of(robot, moving)
    run(loop, 0.5)
    for _ in range(2):
        with pytest.raises(StateError, match=r"close\(\) has still not returned"):
            loop.reset()
    go.set()
    while loop.supervisor.stuck:
        threading.Event().wait(0.005)
    loop.reset()
    run(loop, 0.5)


# Beginning again ------------------------------------------------------------------------------


def test_a_call_stuck_in_an_earlier_run_has_to_return_before_the_next():
    clock, stuck, entered = VirtualClock(), threading.Event(), threading.Event()
    robot = MeasuredArm(clock)
    loop = loop_of(robot, moving)
    command, first = robot.command, []

    def blocking(action):
        if not first:
            first.append(True)
            entered.set()
            stuck.wait(20)
            raise OSError("the cable is out")
        command(action)

    robot.command = blocking
    loop.prepare()
    loop.arm()
    thread = threading.Thread(target=loop.run, args=(5.0,))
    thread.start()
    assert entered.wait(20)
    loop.fault("command() has not returned")
    old = loop.report
    with pytest.raises(StateError, match=r"command\(\) has still not returned"):
        loop.reset()
    stuck.set()
    thread.join(20)
    loop.reset()
    loop.prepare()
    loop.arm()
    report = loop.run(0.5)
    assert loop.states.reason == "the time is up"
    assert report is not old
    assert old.counts["slots"] == 1
    assert report.counts["slots"] == 50


def test_dead_inference_is_replaced_by_reset():
    loop, robot = make_loop()
    loop.prepare()
    loop.arm()

    def die():
        raise InferenceDied("gone")

    loop._inference.poll = die
    loop.run(1.0)
    alive = VirtualInference(loop._inference.spec, counting(), robot.clock)
    loop.reset(inference=alive)
    run(loop, 1.0)
    assert loop.states.state is State.STOPPED
    assert isinstance(InferenceDied("gone"), DipoleError)
