"""What the loop does so that a robot cannot move wrongly, on the virtual clock."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from dipole.data.errors import ConfigError, DipoleError
from dipole.deploy import (
    ActionGroup,
    ActionSpec,
    Channel,
    ControlLoop,
    Limits,
    LoopConfig,
    Reading,
    RobotSpec,
    State,
    VirtualClock,
)
from dipole.deploy.inference import InferenceDied, PolicySpec, VirtualInference
from dipole.deploy.loop.states import StateError
from dipole.deploy.recording.recorder import NoRecorder
from dipole.deploy.safety.command_filter import Command, OutsideLimits
from dipole.deploy.safety.command_gate import CommandGate
from dipole.deploy.safety.supervisor import RobotFault
from dipole.deploy.types import Result

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import WINDOW, VirtualRobot, counting, make_loop, run

CALM = Limits((-3.0,) * 2, (3.0,) * 2, (1.0,) * 2, (4.0,) * 2)


class MeasuredArm(VirtualRobot):
    """Two joints, and a picture that is all the policy sees; `measure(x)` is what is read."""

    def __init__(self, clock, measure=lambda x: x, seen_at=lambda now: now):
        super().__init__(clock, CALM)
        channels = {"camera": Channel((1,)), "joints": Channel((2,), unit="rad")}
        self.spec = RobotSpec(channels, ActionSpec(("a", "b"), "rad", measured_by="joints"), CALM)
        self.measure, self.seen_at = measure, seen_at
        self.x = np.array([1.5, -1.0])

    def observe(self):
        now = self.clock.now()
        values = {"camera": np.float32([0]), "joints": np.float32(self.measure(self.x))}
        return Reading(now, values, {"joints": self.seen_at(now)})


def loop_of(robot, compute=None, delay=0.0, **settings):
    stay = lambda ticket, seen: {"action": np.tile([1.5, -1.0], (16, 1))}  # noqa: E731
    policy = PolicySpec({"camera": (1,)}, 2, WINDOW)
    inference = VirtualInference(policy, compute or stay, robot.clock, delay)
    log = []
    loop = ControlLoop(robot, inference, LoopConfig(**settings), clock=robot.clock, log=log.append)
    loop.log_lines = log
    return loop


# Where motion begins ------------------------------------------------------------------------------


def test_the_first_command_is_where_the_robot_is_measured():
    robot = MeasuredArm(VirtualClock())
    run(loop_of(robot), 0.5)
    assert np.abs(robot.sent[0][1] - [1.5, -1.0]).max() < 1e-6
    assert np.abs(np.stack([c for _, c in robot.sent]) - [1.5, -1.0]).max() < 1e-6


def test_a_position_without_a_measurement_is_refused():
    with pytest.raises(ConfigError, match=r"give measured_by=.*or kind="):
        ActionSpec(("a", "b"), unit="rad")
    with pytest.raises(ConfigError, match="without measured_by"):
        ActionSpec(("a", "b"), unit="rad", kind="joint_position")


def test_joints_that_are_no_numbers_never_arm_although_the_policy_does_not_see_them():
    robot = MeasuredArm(VirtualClock(), measure=lambda x: x * np.nan)
    with pytest.raises(StateError, match="joints"):
        loop_of(robot).prepare()
    assert robot.sent == []


def test_joints_that_become_no_numbers_lead_to_a_hold_and_nothing_but_numbers_is_sent():
    clock = VirtualClock()
    robot = MeasuredArm(clock, measure=lambda x: x * (np.nan if 0.5 < clock.now() < 1.0 else 1.0))
    loop = loop_of(robot)
    report = run(loop, 2.0)
    assert np.isfinite([command for _, command in robot.sent]).all()
    assert [str(t.state) for t in report.transitions].count("HOLD") == 1
    assert loop.states.state is State.STOPPED


def test_joints_measured_too_long_ago_never_arm():
    robot = MeasuredArm(VirtualClock(100.0), seen_at=lambda now: 1.0)
    with pytest.raises(StateError, match="no usable observation"):
        loop_of(robot).prepare()


def test_a_robot_outside_its_limits_is_not_armed():
    robot = MeasuredArm(VirtualClock())
    robot.x = np.array([3.5, 0.0])
    with pytest.raises(
        OutsideLimits, match=r"a is measured at 3\.5 rad, outside its limits -3 to 3"
    ):
        loop_of(robot).prepare()


# HOLD and the end -----------------------------------------------------------------------------


def velocities(robot):
    return np.diff([command for _, command in robot.sent], axis=0) / 0.01


def moving(ticket, seen):
    return {"action": np.linspace([1.5, -1.0], [2.5, 0.0], 16)}


def test_the_end_is_a_braking_ramp_before_the_robots_stop():
    robot = MeasuredArm(VirtualClock())
    report = run(loop_of(robot, moving), 0.8)
    velocity = velocities(robot)
    assert np.abs(velocity).max() > 0.3
    assert not velocity[-1].any()
    assert np.abs(np.diff(velocity, axis=0)).max() <= 4.0 * 0.01 * (1 + 1e-6)
    assert [str(t.state) for t in report.transitions][-2:] == ["STOPPING", "STOPPED"]
    assert robot.calls[-1] == "stop"


def test_a_fault_of_inference_brakes_as_well():
    robot = MeasuredArm(VirtualClock())
    loop = loop_of(robot, moving)

    def die():
        raise InferenceDied("gone")

    robot.clock.call_at(0.5, lambda: setattr(loop._inference, "poll", die))
    run(loop, 5.0)
    assert loop.states.reason == "gone"
    assert not velocities(robot)[-1].any()
    assert np.abs(np.diff(velocities(robot), axis=0)).max() <= 4.0 * 0.01 * (1 + 1e-6)


def test_a_sagging_arm_does_not_creep_in_hold():
    clock = VirtualClock()
    robot = MeasuredArm(clock, measure=lambda x: x - 0.05)  # the load pulls it below its setpoint
    answers = iter([True])
    loop = loop_of(robot, moving, delay=lambda t: 0.0 if next(answers, False) else np.inf,
                   warmup_calls=0, max_hold=10.0)  # fmt: skip
    run(loop, 8.0)
    setpoints = np.stack([command for moment, command in robot.sent if moment > 3.0])
    assert (setpoints == setpoints[0]).all()


def test_a_fault_that_another_thread_sees_stops_the_robot_at_once():
    robot = MeasuredArm(VirtualClock())
    loop = loop_of(robot, moving)
    robot.clock.call_at(0.5, lambda: loop.fault("stuck"))
    report = run(loop, 5.0)
    assert loop.states.reason == "stuck"
    assert robot.calls.count("stop") == 1
    assert report.stopped is True
    assert robot.sent[-1][0] <= 0.5


def test_a_second_interrupt_in_the_braking_ramp_still_stops_the_robot():
    robot = MeasuredArm(VirtualClock())
    loop = loop_of(robot, moving)

    def interrupt(n):
        if robot.clock.now() > 0.52:
            raise KeyboardInterrupt

    robot.fault = interrupt
    robot.clock.call_at(0.5, lambda: loop.request_stop("SIGINT"))
    loop.prepare()
    loop.arm()
    with pytest.raises(KeyboardInterrupt):
        loop.run(5.0)
    assert loop.states.ended
    assert robot.calls.count("stop") == 1


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
    assert loop.recorder.failed > 80


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


def test_a_driver_may_convert_a_command_in_place():
    robot = MeasuredArm(VirtualClock())
    command = robot.command

    def in_degrees(action):
        command(action.copy())
        action *= 180 / np.pi

    robot.command = in_degrees
    report = run(loop_of(robot, moving), 0.8)
    assert report.transitions[-1].reason == "the time is up"
    assert np.abs(np.stack([c for _, c in robot.sent])).max() < 3.0


def test_holds_at_each_seam_do_not_hide_that_limits_are_met():
    robot = MeasuredArm(VirtualClock())
    far = lambda _ticket, _seen: {"action": np.full((16, 2), 3.5)}  # noqa: E731  outside the box
    loop = loop_of(robot, far, delay=0.9, max_limited=5.0, max_approach=20.0, n_action_steps=15)
    report = run(loop, 200.0)
    assert report.counts["holds"] > 3
    assert "without a pause" in loop.states.reason


def test_a_gripper_told_a_little_more_than_shut_is_at_its_limit_and_goes_on():
    clock = VirtualClock()
    robot = VirtualRobot(clock)
    limits = Limits((0.0,), (1.0,), (2.0,), (20.0,))
    gripper = ActionGroup("gripper", "gripper", ("g",), measured_by="x", columns=(0,),
                          limits=limits)  # fmt: skip
    robot.spec = RobotSpec({"x": Channel((2,))}, ActionSpec.of(gripper))
    robot.command = lambda action: robot.sent.append((clock.now(), action.copy()))
    inference = VirtualInference(PolicySpec({"x": (2,)}, 1, WINDOW),
                                 lambda _ticket, _seen: {"action": np.full((16, 1), 1.01)},
                                 clock)  # fmt: skip
    loop = ControlLoop(robot, inference, LoopConfig(), clock=clock)
    report = run(loop, 60.0)
    assert loop.states.reason == "the time is up"
    assert report.counts["clamps_position"] > 5000


def test_a_write_that_takes_most_of_a_period_costs_no_slot():
    clock = VirtualClock()
    robot = VirtualRobot(clock, fault=lambda _n: clock.advance(0.007))
    loop, _ = make_loop(robot=robot, clock=clock, control_hz=100.0)
    run(loop, 1.0)
    assert len(robot.sent) == 101
    assert np.diff([moment for moment, _ in robot.sent]).min() > 0.0099


def test_at_a_low_rate_one_missed_slot_is_a_robot_that_stands():
    assert LoopConfig(policy_hz=10, control_hz=10).resolved().max_missed == 0
    assert LoopConfig(policy_hz=10, control_hz=50).resolved().max_missed == 1
    assert LoopConfig().resolved().max_missed == 2


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
    assert said in loop.report.notes[0]


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
