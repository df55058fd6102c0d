"""Windows against PARITY's literal numbers and a slow plain reference."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data import ConfigError, DataError, EpisodeStore, Windows, WindowSpec
from dipole.data.loading.window_spec import frames_per_step


class Lengths:
    """As much of a store as the index mathematics needs."""

    path = "lengths"

    def __init__(self, lengths):
        self.episode_ends = np.cumsum(lengths)
        self.episode_starts = self.episode_ends - lengths
        self.n_episodes = len(lengths)


def make_windows(lengths, spec, episodes=None, step=1):
    class Nothing:
        @staticmethod
        def named():
            return {}

    return Windows(Lengths(lengths), spec, Nothing(), episodes, step)


def quadruples(windows):
    """(buffer start, buffer end, sample start, sample end) of every window, from its frames."""
    _, frames, is_pad, _ = windows.frames(np.arange(len(windows)))
    rows = []
    for row, padded in zip(frames, is_pad, strict=True):
        inside = np.flatnonzero(~padded)
        assert row[inside].tolist() == list(range(row[inside[0]], row[inside[-1]] + 1))
        rows.append(
            (int(row[inside[0]]), int(row[inside[-1]]) + 1, int(inside[0]), int(inside[-1]) + 1)
        )
    return rows


def test_two_short_episodes_give_the_published_windows():
    windows = make_windows([6, 4], WindowSpec(n_obs_steps=2, horizon=4, n_action_steps=3))
    assert quadruples(windows) == [
        (0, 3, 1, 4),
        (0, 4, 0, 4),
        (1, 5, 0, 4),
        (2, 6, 0, 4),
        (3, 6, 0, 3),
        (4, 6, 0, 2),
        (6, 9, 1, 4),
        (6, 10, 0, 4),
        (7, 10, 0, 3),
        (8, 10, 0, 2),
    ]


def test_an_episode_of_20_frames_has_13_windows_at_16_2_8():
    rows = quadruples(make_windows([20], WindowSpec(2, 16, 8)))
    assert len(rows) == 13
    assert rows[0] == (0, 15, 1, 16)
    # Start L - H + Ta - 1 = 11: 13 windows from -1 leave no other last one.
    assert rows[-1] == (11, 20, 0, 9)


@pytest.mark.parametrize(("length", "count"), [(1, 0), (7, 0), (8, 1), (49, 42), (246, 239)])
def test_windows_per_episode_are_its_length_less_7_at_16_2_8(length, count):
    assert len(make_windows([length], WindowSpec(2, 16, 8))) == count


def test_padding_repeats_the_first_and_the_last_frame():
    windows = make_windows([6, 4], WindowSpec(2, 4, 3))
    observed, acted, is_pad, _ = windows.frames(np.array([6, 9]))
    assert observed.tolist() == [[6, 6], [8, 9]]
    assert acted.tolist() == [[6, 6, 7, 8], [8, 9, 9, 9]]
    assert is_pad.tolist() == [[True, False, False, False], [False, False, True, True]]
    assert (acted.dtype, is_pad.dtype) == (np.int64, bool)


def test_a_window_longer_than_its_episode_is_padded_on_both_sides():
    observed, acted, is_pad, _ = make_windows([3], WindowSpec(3, 8, 6)).frames(np.array([0]))
    assert observed.tolist() == [[0, 0, 0]]
    assert acted.tolist() == [[0, 0, 0, 1, 2, 2, 2, 2]]
    assert is_pad.tolist() == [[True, True, False, False, False, True, True, True]]


def plain_reference(lengths, spec):
    """Every window by loops, as one would write it on paper."""
    rows, first = [], 0
    for length in lengths:
        last_start = length - spec.horizon + spec.n_action_steps - 1
        for start in range(-(spec.n_obs_steps - 1), last_start + 1):
            steps = range(start, start + spec.horizon)
            frames = [first + min(max(step, 0), length - 1) for step in steps]
            rows.append((frames, [not 0 <= step < length for step in steps]))
        first += length
    return rows


@st.composite
def specs(draw):
    horizon = draw(st.integers(1, 12))
    n_obs_steps = draw(st.integers(1, horizon))
    n_action_steps = draw(st.integers(1, horizon - n_obs_steps + 1))
    return WindowSpec(n_obs_steps, horizon, n_action_steps)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), specs())
def test_frames_agree_with_the_plain_reference(lengths, spec):
    windows = make_windows(lengths, spec)
    reference = plain_reference(lengths, spec)
    assert len(windows) == len(reference)
    observed, acted, is_pad, _ = windows.frames(np.arange(len(windows)))
    assert acted.tolist() == [frames for frames, _ in reference]
    assert is_pad.tolist() == [padded for _, padded in reference]
    assert observed.tolist() == [frames[: spec.n_obs_steps] for frames, _ in reference]


@given(
    st.lists(st.integers(1, 20), min_size=2, max_size=6),
    specs(),
    st.randoms(use_true_random=False),
)
def test_chosen_episodes_have_the_windows_they_had_among_all(lengths, spec, random):
    chosen = random.sample(range(len(lengths)), random.randint(1, len(lengths)))
    every = make_windows(lengths, spec)
    some = make_windows(lengths, spec, chosen)
    per_episode = np.cumsum([0, *(len(make_windows([n], spec)) for n in lengths)])
    indices = [i for e in chosen for i in range(per_episode[e], per_episode[e + 1])]
    assert len(some) == len(indices)
    for ours, theirs in zip(
        some.frames(np.arange(len(some))),
        every.frames(np.array(indices, np.int64)),
        strict=True,
    ):
        assert ours.tolist() == theirs.tolist()


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_packed_frames_number_the_frames_of_the_chosen_episodes_alone(lengths, random):
    chosen = random.sample(range(len(lengths)), random.randint(1, len(lengths)))
    windows = make_windows(lengths, WindowSpec(1, 2, 1), chosen)
    ranges = [np.arange(*frames) for frames in windows.frame_ranges()]
    packed = np.concatenate([np.arange(0), *ranges])
    indices = np.arange(len(windows))
    absolute, local = windows.frames(indices)[1], windows.packed_frames(indices)[1]
    assert packed[local].tolist() == absolute.tolist()


def test_gathering_reads_these_frames(store):
    windows = Windows(store([6, 4]), WindowSpec(2, 4, 3))
    batch = windows.gather(np.array([0, 9, 0]))
    assert batch["observation"]["state"][..., 0].tolist() == [[0, 0], [8, 9], [0, 0]]
    assert batch["action"][..., 1].tolist() == [[0, 0, -1, -2], [-8, -9, -9, -9], [0, 0, -1, -2]]
    assert batch["action_is_pad"][1].tolist() == [False, False, True, True]
    assert batch["observation"]["camera"].shape == (3, 2, 4, 4, 3)
    assert batch["observation"]["camera"].dtype == np.uint8
    assert batch["action"].dtype == np.float32


def test_one_window_is_a_row_of_the_batch(store):
    windows = Windows(store([6, 4]), WindowSpec(2, 4, 3))
    batch, one = windows.gather(np.array([9])), windows[-1]
    assert one["observation"]["state"].tolist() == batch["observation"]["state"][0].tolist()
    assert one["action"].tolist() == batch["action"][0].tolist()
    assert one["action_is_pad"].tolist() == [False, False, True, True]


@pytest.mark.parametrize("index", [-1, 10])
def test_an_index_without_a_window_is_refused(index):
    with pytest.raises(IndexError, match="of 10"):
        make_windows([6, 4], WindowSpec(2, 4, 3)).frames(np.array([0, index]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((2, 16, 16), "is 17, past the horizon of 16"),
        ((0, 16, 8), "n_obs_steps is 0"),
        ((2, 16, -1), "n_action_steps is -1"),
        ((2, 16.0, 8), "horizon is 16.0"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_with_its_value(values, message):
    with pytest.raises(ConfigError, match=message):
        WindowSpec(*values)


@pytest.mark.parametrize(
    ("episodes", "message"),
    [([0, 2], "no episode 2; there are 2"), ([1, 1], "episode 1 is chosen twice"), ([0.5], "0.5")],
)
def test_episodes_that_are_not_there_are_refused(episodes, message):
    with pytest.raises(DataError, match=message):
        make_windows([6, 4], WindowSpec(2, 4, 3), episodes)


def test_no_windows_at_all_is_an_error_that_says_how_long_episodes_must_be():
    windows = make_windows([5, 7], WindowSpec(2, 16, 8))
    assert len(windows) == 0
    with pytest.raises(DataError, match=r"has 7 frames.* need 8"):
        windows.require_windows()


@pytest.mark.parametrize("spec", [WindowSpec(2, 16, 8), WindowSpec(1, 1, 1), WindowSpec(3, 8, 6)])
def test_the_shortest_episode_has_one_window_and_a_shorter_one_none(spec):
    counts = spec.count(np.array([spec.shortest_episode() - 1, spec.shortest_episode()]))
    assert counts[0] == 0
    assert counts[1] >= 1


def test_the_human_data_has_24208_windows(human_path):
    windows = Windows(EpisodeStore.open(human_path), WindowSpec(2, 16, 8))
    assert len(windows) == 24_208


def test_at_50_hz_a_policy_of_10_hz_sees_every_fifth_frame():
    windows = make_windows([60], WindowSpec(2, 4, 2), step=frames_per_step(50, 10))
    observed, acted, is_pad, _ = windows.frames(np.array([0, 7, len(windows) - 1]))
    assert observed.tolist() == [[0, 0], [2, 7], [49, 54]]
    assert acted.tolist() == [[0, 0, 5, 10], [2, 7, 12, 17], [49, 54, 59, 59]]
    assert is_pad.tolist() == [
        [True, False, False, False],
        [False] * 4,
        [False, False, False, True],
    ]
    assert len(windows) == 60 - 10 + 5


def test_at_15_hz_a_policy_of_10_hz_sees_the_nearest_frames():
    assert WindowSpec(2, 6, 4).offsets(frames_per_step(15, 10)).tolist() == [-1, 0, 2, 3, 5, 6]


def test_29_97_frames_a_second_are_no_binary_fraction():
    assert frames_per_step(29.97, 29.97) == 1
    assert frames_per_step(29.97, 9.99) == 3


def test_data_slower_than_the_policy_is_refused():
    with pytest.raises(ConfigError, match=r"10 frames a second and the policy 15 steps"):
        frames_per_step(10, 15)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
    specs(),
    st.fractions(1, 8, max_denominator=6),
)
def test_strided_frames_are_the_nearest_in_time(lengths, spec, step):
    windows = make_windows(lengths, spec, step=step)
    assert len(windows) == sum(max(0, n - spec.shortest_episode(step) + 1) for n in lengths)
    if not len(windows):
        return
    _, acted, is_pad, last = windows.frames(np.arange(len(windows)))
    starts = np.cumsum([0, *lengths])
    row = 0
    for start, length in zip(starts[:-1].tolist(), lengths, strict=True):
        for current in range(max(0, length - spec.shortest_episode(step) + 1)):
            for k in range(spec.horizon):
                time = current + (k - (spec.n_obs_steps - 1)) * step
                frame = math.floor(time + Fraction(1, 2))
                inside = min(max(frame, 0), length - 1)
                assert acted[row, k] == start + inside
                assert is_pad[row, k] == (frame != inside)
            assert last[row] == start + length - 1
            row += 1


@given(specs(), st.fractions(1, 8, max_denominator=6))
def test_the_last_window_ends_at_most_its_executed_actions_past_the_episode(spec, step):
    length = spec.shortest_episode(step) + 3
    windows = make_windows([length], spec, step=step)
    is_pad = windows.frames(np.array([len(windows) - 1])).is_pad[0]
    current = spec.n_obs_steps - 1
    assert is_pad[current:].sum() <= spec.n_action_steps - 1


@pytest.mark.parametrize(
    ("values", "spec"),
    [
        ({"n_obs_steps": 2, "horizon": 16, "n_action_steps": 8}, WindowSpec(2, 16, 8)),
        (
            {"obs_seconds": 0.2, "horizon_seconds": 1.6, "action_seconds": 0.8},
            WindowSpec(2, 16, 8),
        ),
        ({"horizon_seconds": 0.8, "n_action_steps": 4}, WindowSpec(2, 8, 4)),
    ],
)
def test_a_window_is_given_in_steps_or_in_seconds(values, spec):
    assert WindowSpec.from_dict(values, hz=10) == spec


@pytest.mark.parametrize(
    ("values", "hz", "message"),
    [
        ({"n_obs_step": 2}, 10, "no 'n_obs_step', did you mean 'n_obs_steps'"),
        (
            {"horizon_seconds": 1.57},
            10,
            "15.7 steps at 10 Hz: a whole number is needed, e.g. 1.6 s",
        ),
        ({"horizon_seconds": 1.6}, None, "no rate is known: set policy_hz"),
        ({"horizon_seconds": "long"}, 10, "'long': seconds are a positive number"),
        ({"horizon_seconds": 1.6, "horizon": 16}, 10, "both horizon and horizon_seconds"),
    ],
)
def test_a_window_that_cannot_be_read_is_refused(values, hz, message):
    with pytest.raises(ConfigError, match=message):
        WindowSpec.from_dict(values, hz)


def test_episodes_too_short_for_a_window_have_no_frames_in_it():
    windows = make_windows([6, 1, 4], WindowSpec(2, 4, 2))
    assert windows.used.tolist() == [True, False, True]
    assert windows.frame_ranges() == [(0, 6), (7, 11)]
    assert windows.n_frames == 10
    assert windows.packed_frames(np.array([7])).acted.tolist() == [[7, 8, 9, 9]]


def test_statistics_are_of_episodes_that_have_windows(write):
    store = EpisodeStore.open(write([6, 1, 4]))
    assert Windows(store, WindowSpec(2, 4, 2)).statistics()["state"].count == 10
