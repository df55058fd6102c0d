"""Chunks in, actions out: which are dropped, which refused, how they are joined."""

import numpy as np
import pytest

from dipole.data import WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.data.transforms.rotation import angle, slerp
from dipole.deploy import ActionSpec
from dipole.deploy.chunks.action_queue import ChunkQueue, Verdict
from dipole.deploy.chunks.blending import make_merger
from dipole.deploy.chunks.interpolation import Interpolation
from dipole.deploy.types import Ticket

ONE = ActionSpec(("x",), measured_by="x")
WINDOW = WindowSpec(n_obs_steps=2, horizon=6, n_action_steps=2)
CHUNK = np.arange(-1.0, 5.0)[:, None]  # index To - 1 = 1 holds 0: the action of the current time


def make_plan(merger="switch", max_lateness=1.0, **options):
    return ChunkQueue(
        WINDOW, make_merger(merger, ONE, **options), dt=0.1, max_lateness=max_lateness
    )


def drain(plan, now=0.0):
    actions = []
    while (action := plan.pop(now)) is not None:
        actions.append(float(action[0]))
    return actions


def test_a_chunk_begins_with_the_action_of_its_observation():
    plan = make_plan()
    assert plan.accept(plan.ticket(0.0), CHUNK, now=0.0) is Verdict.ACCEPTED
    assert drain(plan) == [0, 1, 2, 3, 4]


def test_what_was_consumed_meanwhile_is_dropped_and_not_what_time_suggests():
    plan = make_plan()
    plan.accept(plan.ticket(0.0), CHUNK, now=0.0)
    plan.pop(0.0)
    ticket = plan.ticket(0.1)
    plan.pop(0.1)
    plan.pop(0.2)
    assert plan.accept(ticket, CHUNK + 100, now=0.9) is Verdict.ACCEPTED
    assert drain(plan, 0.9) == [102, 103, 104]


def test_nothing_is_dropped_where_the_robot_was_holding():
    plan = make_plan()
    ticket = plan.ticket(0.0)
    plan.accept(ticket, CHUNK, now=0.5)
    assert drain(plan, 0.5) == [0, 1, 2, 3, 4]


def test_a_chunk_that_is_entirely_past_is_late():
    plan = make_plan()
    plan.accept(plan.ticket(0.0), CHUNK, now=0.0)
    ticket = plan.ticket(0.0)
    drain(plan)
    assert plan.accept(ticket, CHUNK, now=0.5) is Verdict.LATE
    assert plan.left == 0


def test_a_chunk_for_a_world_long_gone_is_late():
    plan = make_plan(max_lateness=1.0)
    assert plan.accept(plan.ticket(0.0), CHUNK, now=1.01) is Verdict.LATE


def test_actions_that_waited_too_long_are_dropped():
    plan = make_plan(max_lateness=1.0)
    plan.accept(plan.ticket(0.0), CHUNK, now=0.0)
    assert plan.pop(0.9) is not None
    assert plan.pop(1.2) is None  # due at 0.1


def test_a_chunk_from_before_a_reset_is_refused():
    plan = make_plan()
    ticket = plan.ticket(0.0)
    plan.reset()
    assert plan.accept(ticket, CHUNK, now=0.0) is Verdict.EARLIER_EPOCH


def test_duplicates_and_overtaken_chunks_are_refused():
    plan = make_plan()
    first, second = plan.ticket(0.0), plan.ticket(0.0)
    assert plan.accept(second, CHUNK + 10, now=0.0) is Verdict.ACCEPTED
    assert plan.accept(second, CHUNK, now=0.0) is Verdict.OUT_OF_ORDER
    assert plan.accept(first, CHUNK, now=0.0) is Verdict.OUT_OF_ORDER
    assert drain(plan) == [10, 11, 12, 13, 14]


def test_tickets_say_what_was_consumed():
    plan = make_plan()
    plan.accept(plan.ticket(0.0), CHUNK, now=0.0)
    plan.pop(0.0)
    assert plan.ticket(7.0) == Ticket(chunk_id=2, epoch=0, observation_time=7.0, consumed=1)


def merged(merger, old, new, position=0, **options):
    column = np.array(new, float)[:, None]
    joined = make_merger(merger, ONE, **options).merge(
        [np.array([x], float) for x in old], column, position
    )
    return joined[:, 0].tolist()


def test_switching_takes_the_new_chunk_at_once():
    assert merged("switch", [0, 0], [8, 8, 8]) == [8, 8, 8]


def test_cross_fading_goes_over_in_equal_parts():
    assert merged("cross_fade", [0, 0, 0, 0], [8, 8, 8, 8, 8], steps=3) == [2, 4, 6, 8, 8]


def test_cross_fading_is_no_longer_than_what_there_is_to_fade():
    assert merged("cross_fade", [0], [8, 8, 8], steps=3) == [4, 8, 8]
    assert merged("cross_fade", [], [8, 8], steps=3) == [8, 8]


def test_the_ensemble_averages_what_was_predicted_for_a_position():
    ensemble = make_merger("ensemble", ONE, decay=0.0)
    assert ensemble.merge([], np.array([[0.0], [0.0], [0.0]]), 5)[:, 0].tolist() == [0, 0, 0]
    assert ensemble.merge([], np.array([[6.0], [6.0], [6.0]]), 6)[:, 0].tolist() == [3, 3, 6]
    assert ensemble.merge([], np.array([[9.0], [9.0], [9.0]]), 7)[:, 0].tolist() == [5, 7.5, 9]


def test_the_ensemble_weighs_the_oldest_most_as_its_authors_do():
    ensemble = make_merger("ensemble", ONE, decay=np.log(2))
    ensemble.merge([], np.array([[0.0]]), 0)
    assert ensemble.merge([], np.array([[9.0]]), 0)[:, 0].tolist() == pytest.approx([3.0])


def test_the_ensemble_forgets_at_a_reset():
    ensemble = make_merger("ensemble", ONE)
    ensemble.merge([], np.array([[0.0]]), 0)
    ensemble.reset()
    assert ensemble.merge([], np.array([[9.0]]), 0)[:, 0].tolist() == [9.0]


def test_a_mistyped_merger_or_option_is_answered():
    with pytest.raises(ConfigError, match="did you mean 'switch'"):
        make_merger("swich", ONE)
    with pytest.raises(ConfigError, match="does not take these options"):
        make_merger("switch", ONE, steps=3)


@pytest.mark.parametrize(
    ("merger", "options", "message"),
    [
        ("cross_fade", {"steps": 2.5}, "merger_options.steps is 2.5: a whole number is needed"),
        ("cross_fade", {"steps": True}, "merger_options.steps is True"),
        ("cross_fade", {"steps": "4"}, "merger_options.steps is '4'"),
        ("cross_fade", {"steps": None}, "merger_options.steps is None"),
        ("cross_fade", {"steps": 0}, "cross_fade steps is 0"),
        ("ensemble", {"decay": "0.01"}, "merger_options.decay is '0.01': a number is needed"),
        ("ensemble", {"decay": float("nan")}, "ensemble decay is nan"),
        ("ensemble", {"decay": -300.0}, "ensemble decay is -300.0; it must be .* -100 to 100"),
        ("rtc", {"keep": 2.5}, "merger_options.keep is 2.5: a whole number or null is needed"),
        ("rtc", {"keep": True}, "merger_options.keep is True"),
        ("rtc", {"method": 3}, "merger_options.method is 3: a text is needed"),
        ("rtc", {"method": "given"}, "rtc has no method given"),
        ("rtc", {"max_weight": "x"}, "merger_options.max_weight is 'x'"),
        ("rtc", {"clip": "x"}, "guidance max_weight is 'x'; it must be a positive number"),
        ("rtc", {"data_std": None}, "merger_options.data_std is None: a number is needed"),
        ("rtc", {"data_scale": None}, "guidance data_std is None; it must be a positive number"),
        ("rtc", {"decay": 1}, "merger_options.decay is 1: a text is needed"),
        ("switch", {"name": 1}, "does not take these options"),
        ("switch", {"spec": 1}, "does not take these options"),
    ],
)
def test_an_option_of_a_merger_that_would_fail_in_motion_is_refused(merger, options, message):
    with pytest.raises(ConfigError, match=message):
        make_merger(merger, ONE, **options)


@pytest.mark.parametrize(("decay", "mean"), [(-100.0, 7.0), (100.0, 0.0)])
def test_an_ensemble_of_many_predictions_stays_a_number_at_the_largest_decay(decay, mean):
    ensemble = make_merger("ensemble", ONE, decay=decay)
    for value in range(7):
        ensemble.merge([], np.array([[float(value)]]), 0)
    merged = ensemble.merge([], np.array([[7.0]]), 0)[:, 0]
    assert merged.tolist() == pytest.approx([mean], abs=1e-9)


def test_the_ramp_is_straight_and_ends_at_the_action_exactly():
    ramp = Interpolation(ONE, steps=4, default="linear")
    ramp.start(np.array([0.0]))
    ramp.aim(np.array([0.3]))
    assert [float(ramp.next()[0]) for _ in range(5)] == pytest.approx(
        [0.075, 0.15, 0.225, 0.3, 0.3]
    )
    assert float(ramp.next()[0]) == 0.3


def test_steps_are_sent_as_they_are():
    ramp = Interpolation(ONE, steps=4, default="step")
    ramp.start(np.array([0.0]))
    ramp.aim(np.array([8.0]))
    assert float(ramp.next()[0]) == 8.0


def test_slerp_turns_at_constant_speed_the_short_way():
    start, end = np.array([1.0, 0, 0, 0]), np.array([np.cos(0.5), 0, 0, np.sin(0.5)])  # 1 rad
    for t in (0.0, 0.25, 0.5, 1.0):
        assert angle(start, slerp(start, end, t)) == pytest.approx(t, abs=1e-6)
        assert angle(start, slerp(start, -end, t)) == pytest.approx(t, abs=1e-6)
