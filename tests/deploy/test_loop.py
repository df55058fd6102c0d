"""The control loop on the virtual clock: nothing sleeps, everything is deterministic."""

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy import ActionSpec, Channel, DryRun, RobotSpec, State, VirtualClock
from dipole.deploy.loop.states import StateError
from dipole.deploy.safety.supervisor import RobotFault
from dipole.deploy.types import Result

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import GENEROUS, WINDOW, VirtualRobot, counting, make_loop, run


def states(loop):
    return [str(transition.state) for transition in loop.report.transitions]


# Timing -------------------------------------------------------------------------------------------


def test_commands_are_sent_on_absolute_deadlines():
    clock = VirtualClock(start=5.0)
    robot = VirtualRobot(clock, fault=lambda n: clock.advance(0.004))  # each write takes 4 ms
    loop, _ = make_loop(robot=robot, clock=clock, control_hz=100.0)
    report = run(loop, 0.5)
    times = [moment - 0.004 for moment, _ in robot.sent]
    assert times[:50] == pytest.approx([5.0 + n * 0.01 for n in range(50)])
    assert report.counts["missed_slots"] == 0


def test_missed_slots_are_skipped_and_counted_and_never_caught_up():
    clock = VirtualClock()
    robot = VirtualRobot(clock, fault=lambda n: clock.advance(0.035 if n == 10 else 0.0))
    loop, _ = make_loop(robot=robot, clock=clock, control_hz=100.0)
    report = run(loop, 0.3)
    times = [round(moment, 6) for moment, _ in robot.sent]
    assert report.counts["missed_slots"] == 2
    assert times[10:14] == [0.135, 0.1375, 0.1425, 0.15]  # no two at one instant
    assert times[-1] == 0.3  # the braking command
    assert len(times) == 31 - 2
    assert report.samples["lateness"].maximum == pytest.approx(0.025)


def test_a_long_garbage_collection_is_missed_slots_and_no_burst():
    clock = VirtualClock()
    robot = VirtualRobot(clock, fault=lambda n: gc.collect() if n == 10 else None)
    loop, _ = make_loop(robot=robot, clock=clock, control_hz=100.0)

    def takes_long(phase, _info):
        clock.advance(0.055 if phase == "start" else 0.0)

    gc.disable()  # no collection but the one that is injected
    gc.callbacks.append(takes_long)
    try:
        report = run(loop, 0.3)
    finally:
        gc.callbacks.remove(takes_long)
        gc.enable()
    times = [round(moment, 6) for moment, _ in robot.sent]
    assert times[10:14] == [0.155, 0.1575, 0.1625, 0.17]
    assert report.counts["missed_slots"] == 4
    assert len(times) == 31 - 4


def test_a_stopped_process_is_no_burst_of_commands():
    clock = VirtualClock()
    stopped = {12: 3.0}
    robot = VirtualRobot(clock, look=lambda r: (clock.advance(stopped.pop(12, 0.0)), r)[1]
                         if len(robot.sent) == 12 * 10 else r)  # fmt: skip
    loop, _ = make_loop(robot=robot, clock=clock, control_hz=100.0, call_timeout=10.0)
    report = run(loop, 5.0)
    steps = np.diff([action[0] for _, action in robot.sent])
    per_slot = {}
    for moment, _ in robot.sent:
        per_slot[round(moment, 3)] = per_slot.get(round(moment, 3), 0) + 1
    assert max(per_slot.values()) == 1
    assert report.counts["missed_slots"] == 299
    assert "HOLD" in states(loop)  # what was planned before is too late after it
    assert states(loop)[-3:] == ["RUN", "STOPPING", "STOPPED"]
    assert np.abs(steps).max() <= 100


def test_actions_are_interpolated_to_the_rate_of_commands():
    loop, robot = make_loop(control_hz=40.0)
    run(loop, 0.3)
    assert robot.actions[:8] == [25, 50, 75, 100, 100.25, 100.5, 100.75, 101]


# The robot ----------------------------------------------------------------------------------------


def test_a_write_that_raises_is_a_fault_with_one_attempt_to_stop():
    def fault(n):
        if n == 3:
            raise OSError("the cable is out")

    clock = VirtualClock()
    loop, robot = make_loop(robot=VirtualRobot(clock, fault=fault), clock=clock)
    report = run(loop, 2.0)
    assert loop.states.state is State.FAULT
    assert loop.states.reason == "the robot's command() raised OSError: the cable is out"
    assert robot.calls.count("stop") == 1
    assert len(robot.sent) == 3
    assert report.stopped is True


def test_a_write_that_takes_too_long_is_a_fault():
    clock = VirtualClock()
    robot = VirtualRobot(clock, fault=lambda n: clock.advance(0.5 if n == 3 else 0))
    loop, _ = make_loop(robot=robot, clock=clock)
    run(loop, 2.0)
    assert "command() took 0.500 s" in loop.states.reason


def test_the_report_tells_the_truth_about_a_stop_that_failed():
    loop, robot = make_loop()

    def stop():
        raise OSError("no route to the robot")

    robot.stop = stop
    report = run(loop, 0.5)
    assert report.stopped is False
    assert "NOT KNOWN" in str(report)
    assert any("no route to the robot" in line for line in loop.log_lines)


def test_a_robot_that_cannot_follow_for_seconds_is_stopped():
    clock = VirtualClock()
    limits = type(GENEROUS)((-1e3,) * 2, (1e3,) * 2, (1.0,) * 2, (10.0,) * 2)
    settings = {"max_approach": 1.0, "max_limited": 0.5}
    loop, _ = make_loop(robot=VirtualRobot(clock, limits), clock=clock, **settings)
    run(loop, 5.0)
    assert loop.states.state is State.STOPPED
    reason = "the first action was not reached for 1 s without a pause (velocity)"
    assert loop.states.reason == reason


def test_an_approach_has_its_own_bound_and_meeting_limits_after_it_another():
    clock = VirtualClock()
    limits = type(GENEROUS)((-1e3,) * 2, (1e3,) * 2, (50.0,) * 2, (5e3,) * 2)
    far = lambda ticket, seen: {"action": np.full((16, 2), 100.0 if clock.now() < 5 else 500.0)}  # noqa: E731
    settings = {"max_approach": 3.0, "max_limited": 2.0}
    loop, _ = make_loop(far, robot=VirtualRobot(clock, limits), clock=clock, **settings)
    run(loop, 20.0)  # 2 s to come to 100; then 8 s to 500 are too long
    assert loop.states.reason == "limits were met for 2 s without a pause (velocity)"
    assert 5 < loop.clock.now() < 8


def test_a_robot_without_limits_is_refused():
    clock = VirtualClock()
    with pytest.raises(ConfigError, match="no limits"):
        make_loop(robot=VirtualRobot(clock, limits=None), clock=clock)


def test_a_policy_that_does_not_fit_the_robot_is_refused():
    clock = VirtualClock()
    robot = VirtualRobot(clock)
    action = ActionSpec(("a", "b"), measured_by="y")
    robot.spec = RobotSpec({"y": Channel((2,))}, action, GENEROUS)
    with pytest.raises(ConfigError, match="the policy observes 'x', the robot has y"):
        make_loop(robot=robot, clock=clock)


# States -------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_arming_and_starting():
    loop, robot = make_loop()
    with pytest.raises(StateError, match="arm it first"):
        loop.run(1.0)
    loop.prepare()
    with pytest.raises(StateError, match="WARMUP: arm it first"):
        loop.run(1.0)
    loop.arm()
    assert robot.sent == []
    assert "hold" not in robot.calls


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 0.0, -1.0, True, "30"])
def test_a_run_of_no_length_is_refused_and_the_robot_stays_armed(seconds):
    loop, robot = make_loop()
    loop.prepare()
    loop.arm()
    with pytest.raises(ConfigError, match=r"seconds must be a positive number, or None"):
        loop.run(seconds)
    assert robot.sent == []
    assert loop.states.state is State.ARMED


def test_a_fault_latches_until_it_is_reset():
    def fault(n):
        if n == 3:
            raise OSError("once")

    clock = VirtualClock()
    loop, robot = make_loop(robot=VirtualRobot(clock, fault=fault), clock=clock, delay=0.05)
    run(loop, 2.0)
    for forbidden in (loop.prepare, loop.arm, lambda: loop.run(1.0)):
        with pytest.raises(StateError, match="FAULT"):
            forbidden()
    robot.fault = lambda n: None
    loop.reset()
    run(loop, 0.5)
    assert loop.states.state is State.STOPPED
    assert min(robot.actions[3:]) >= 200  # nothing of the chunk from before


def test_a_stop_asked_for_takes_effect_at_the_next_slot():
    clock = VirtualClock()
    loop, robot = make_loop(clock=clock, control_hz=100.0)
    clock.call_at(0.5042, lambda: loop.request_stop("SIGINT"))
    report = run(loop, 10.0)
    assert loop.states.reason == "SIGINT"
    assert robot.moves[-1][0] == pytest.approx(0.50)
    assert robot.calls[-1] == "stop"
    assert report.stopped is True
    assert loop.stop() is True


def test_a_dry_run_sends_nothing_and_shows_what_it_would():
    clock = VirtualClock()
    robot, lines = VirtualRobot(clock), []
    dry = DryRun(robot, show=lines.append, every=10)
    loop, _ = make_loop(robot=dry, clock=clock)
    run(loop, 1.0)
    assert robot.sent == []
    assert robot.calls == ["connect"]
    assert [float(c[0]) for c in dry.commands[:3]] == [100, 101, 102]
    assert lines[0] == "dry run: would send a 100, b 100"
    assert lines[-1] == "dry run: would stop"


def test_a_dry_run_says_each_number_in_its_unit():
    robot, lines = VirtualRobot(VirtualClock()), []
    action = ActionSpec(("a", "b"), "rad, m", measured_by="x")
    robot.spec = RobotSpec({"x": Channel((2,))}, action, GENEROUS)
    DryRun(robot, show=lines.append).command(np.array([1.0, 2.0]))
    assert lines == ["dry run: would send a 1 rad, b 2 m"]


def test_the_report_reads_as_text_and_as_json():
    loop, _ = make_loop(delay=0.05)
    report = run(loop, 2.0)
    plain = report.to_dict()
    assert plain["state"] == "STOPPED"
    assert plain["counts"]["slots"] == 20
    assert plain["inference_ms"]["max"] == pytest.approx(50.0)
    for word in ("missed 0", "yes, its stop() returned", "observation_age_ms", "lateness_ms"):
        assert word in str(report)


# Simulation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("control_hz", [10.0, 50.0])
def test_without_delay_the_loop_does_exactly_what_the_executor_does(control_hz):
    torch = pytest.importorskip("torch")
    from dipole.deploy.inference.torch_policy import PolicyCompute
    from dipole.policy.execution.executor import Executor

    class Noisy:
        window = WINDOW

        def predict(self, observation, generator=None):
            noise = torch.stack([torch.randn(16, 2, generator=g) for g in generator])
            return noise + observation["x"].mean(1, keepdim=True)

    executor = Executor(Noisy(), n_rows=1, inference_batch_size=1)
    x = np.zeros(2)
    executor.reset(0, {"x": x.astype(np.float32)}, seed=3)
    expected = []
    for _ in range(40):
        action = executor.act([0])[0].astype(np.float64)
        expected.append(action)
        executor.observe(0, {"x": action.astype(np.float32)})

    loop, robot = make_loop(PolicyCompute(Noisy(), seed=3), control_hz=control_hz)
    run(loop, 4.0)
    sent = np.stack([action for _, action in robot.sent])
    assert np.array_equal(sent[int(control_hz / 10) - 1 :: int(control_hz / 10)][:40], expected)


def test_the_robots_side_needs_no_torch():
    code = (
        "import sys, dipole.deploy.loop.control_loop, dipole.deploy.robots.dry_run; "
        "heavy = {'torch', 'zarr', 'hydra', 'gymnasium', 'diffusers'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_results_for_nobody_are_counted():
    loop, _ = make_loop()
    loop.prepare()
    loop.arm()
    answer = counting()(loop._executor.queue.ticket(0.0), None)
    loop._inference.deliver(Result(loop._executor.queue.ticket(0.0), answer, 0.0), 0.0)
    assert loop.run(0.5).counts["chunks_earlier_epoch"] == 1


def test_connecting_that_fails_is_a_fault():
    loop, robot = make_loop()

    def connect():
        raise OSError("no such robot")

    robot.connect = connect
    with pytest.raises(RobotFault, match="no such robot"):
        loop.prepare()
    assert loop.states.state is State.FAULT
