"""What the control loop makes of chunks and observations, on the virtual clock."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.deploy import Reading, State, VirtualClock
from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.loop.states import StateError

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import VirtualRobot, counting, make_loop, run


def states(loop):
    return [str(transition.state) for transition in loop.report.transitions]


# Chunks -------------------------------------------------------------------------------------------


def test_without_delay_every_chunk_runs_for_its_action_steps():
    loop, robot = make_loop()
    run(loop, 2.0)
    assert robot.actions == [*range(100, 108), *range(200, 208), *range(300, 304)]


def test_with_delay_the_old_chunk_goes_on_and_the_new_one_begins_where_it_would_be():
    loop, robot = make_loop(delay=0.25)
    report = run(loop, 2.5)
    # asked at 0, arrives at 0.25, used from 0.3; asked again after 8 actions, at 1.1, used at 1.4
    assert robot.actions[:12] == [*range(100, 111), 203]
    assert robot.moves[0][0] == pytest.approx(0.3)
    assert report.counts["starved"] == 0


def test_with_too_much_delay_the_chunk_is_finished_and_then_held():
    loop, robot = make_loop(delay=lambda ticket: 0.0 if ticket.chunk_id == 1 else np.inf)
    report = run(loop, 3.0)
    assert robot.actions == [*range(100, 115)]  # 16 - To + 1, and nothing after
    assert states(loop)[-2:] == ["HOLD", "STOPPED"]
    assert [float(action[0]) for _, action in robot.sent[15:]] == [114.0] * 15  # its setpoint
    assert robot.calls.count("hold") == 0
    assert report.counts["starved"] == 15
    assert report.counts["inference_timeouts"] == report.counts["requests"] - 2


def test_delays_of_seconds_block_no_slot_and_their_chunks_are_refused():
    loop, robot = make_loop(delay=lambda t: 0.0 if t.chunk_id == 1 else 3.0, inference_timeout=5.0)
    report = run(loop, 10.0)
    assert report.counts["slots"] == 100
    assert report.counts["missed_slots"] == 0
    assert report.counts["chunks_late"] >= 1
    assert max(robot.actions) == 114


def test_jitter_reordering_and_duplicates_never_bring_an_old_chunk_back():
    rng = np.random.default_rng(0)
    loop, robot = make_loop(delay=lambda t: float(rng.uniform(0, 0.6)), inference_timeout=0.3)
    submit = loop._inference.submit

    def submit_twice(request):
        submit(request)
        submit(request)

    loop._inference.submit = submit_twice
    report = run(loop, 30.0)
    chunks = [int(action // 100) for action in robot.actions]
    assert chunks == sorted(chunks)
    assert report.counts["chunks_out_of_order"] > 10
    assert report.counts["slots"] == 300


def test_the_same_faults_give_the_same_run():
    def once():
        rng = np.random.default_rng(7)
        loop, robot = make_loop(delay=lambda t: float(rng.uniform(0, 1.5)))
        return run(loop, 20.0).to_dict(), [a.tolist() for _, a in robot.sent]

    assert once() == once()


def test_seams_are_measured():
    loop, _ = make_loop()
    assert run(loop, 1.0).samples["seam_jump"].maximum == pytest.approx(92 * 2**0.5)  # 108 to 200


# What makes no sense ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_an_action_that_makes_no_sense_never_reaches_the_robot(value):
    good = counting()

    def compute(ticket, observation):
        answer = good(ticket, observation)
        if ticket.chunk_id == 2:
            answer["action"][9, 1] = value
        return answer

    loop, robot = make_loop(compute)
    report = run(loop, 2.0)
    assert np.isfinite([action for _, action in robot.sent]).all()
    assert report.counts["chunks_refused"] == 1
    assert robot.actions == [*range(100, 108), *range(300, 308), *range(400, 403)]
    assert states(loop) == ["WARMUP", "ARMED", "RUN", "HOLD", "RUN", "STOPPING", "STOPPED"]
    assert any("chunk 2 refused" in line for line in loop.log_lines)


def test_an_error_of_the_policy_is_held_through_and_said():
    loop, robot = make_loop()
    loop._inference._compute = lambda ticket, observation: {}
    run(loop, 1.0)
    assert robot.moves == []
    assert "no 'action'" in loop.report.transitions[-2].reason


def test_dead_inference_is_a_fault_with_its_cause():
    loop, robot = make_loop()
    loop.prepare()
    loop.arm()

    def poll():
        raise InferenceDied("the inference process ended with exit code -9")

    loop._inference.poll = poll
    report = loop.run(1.0)
    assert loop.states.state is State.FAULT
    assert "exit code -9" in loop.states.reason
    assert robot.calls.count("stop") == 1
    assert report.stopped is True


# Observations ----------------------------------------------------------------------------------


def frozen_after(seconds, clock, until=np.inf):
    seen = []

    def look(reading):
        if seconds <= clock.now() < until:
            return seen[-1]
        seen.append(reading)
        return reading

    return look


def test_a_frozen_camera_leads_to_a_hold_within_the_age_limit():
    clock = VirtualClock()
    robot = VirtualRobot(clock, look=frozen_after(1.0, clock))
    loop, _ = make_loop(robot=robot, clock=clock, max_observation_age=0.35)
    run(loop, 3.0)
    assert robot.moves[-1][0] == pytest.approx(1.2)  # the last reading is of 0.9
    held = next(t for t in loop.report.transitions if t.state is State.HOLD)
    assert held.time == pytest.approx(1.3)
    assert "0.40 s old" in held.reason


def test_after_a_frozen_camera_nothing_planned_before_is_sent():
    clock = VirtualClock()
    robot = VirtualRobot(clock, look=frozen_after(1.0, clock, until=2.0))
    loop, _ = make_loop(robot=robot, clock=clock, max_observation_age=0.35, delay=0.25)
    run(loop, 4.0)
    after = [action[0] for moment, action in robot.moves if moment > 1.5]
    assert min(after) >= 300  # chunk 2 was on its way
    assert loop.report.counts["chunks_earlier_epoch"] == 1


def test_after_a_gap_the_policy_is_not_shown_what_was_before_it():
    clock, shown = VirtualClock(), []

    def compute(ticket, observation):
        shown.append((round(clock.now(), 6), observation["x"][:, 0].tolist()))
        return counting()(ticket, observation)

    robot = VirtualRobot(clock, look=frozen_after(1.0, clock, until=2.0))
    loop, _ = make_loop(compute, robot=robot, clock=clock, max_observation_age=0.35)
    run(loop, 2.05)
    moment, history = shown[-1]
    assert moment == 2.0
    assert history == [204.0] * 2  # where it was held


@pytest.mark.parametrize(
    ("shift", "counted"),
    [(-100.0, "readings_x went back in time"), (100.0, "readings_x is from the future")],
)
def test_a_clock_that_was_set_leads_to_a_hold(shift, counted):
    clock = VirtualClock()
    robot = VirtualRobot(
        clock,
        look=lambda r: Reading(r.time + shift, r.values) if clock.now() > 1.0 else r,
    )
    loop, _ = make_loop(robot=robot, clock=clock)
    report = run(loop, 2.0)
    assert states(loop)[-2:] == ["HOLD", "STOPPED"]
    assert report.counts[counted] > 5


@pytest.mark.parametrize("values", [{}, {"x": np.zeros(3)}, {"x": np.array([0.0, np.nan])}])
def test_readings_that_do_not_fit_are_not_shown_to_the_policy(values):
    clock = VirtualClock()
    robot = VirtualRobot(clock, look=lambda r: Reading(r.time, values) if clock.now() > 1.0 else r)
    loop, _ = make_loop(robot=robot, clock=clock)
    run(loop, 2.0)
    assert states(loop)[-2:] == ["HOLD", "STOPPED"]


def test_a_robot_that_sees_nothing_cannot_be_armed():
    clock = VirtualClock()
    loop, _ = make_loop(robot=VirtualRobot(clock, look=lambda r: None), clock=clock)
    with pytest.raises(StateError, match="no usable observation within 5 s"):
        loop.prepare()
    assert loop.states.state is State.FAULT


def test_a_holds_bound_stops_the_robot():
    loop, _ = make_loop(delay=np.inf, max_hold=2.0)
    run(loop, 60.0)
    assert loop.states.state is State.STOPPED
    assert loop.states.reason.startswith("held for 2 s")
    assert loop.clock.now() == pytest.approx(2.1)
