"""The receding horizon, row by row."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dipole.data import WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context
from dipole.policy.denoisers import ConditionalUnet1D
from dipole.policy.execution.executor import (
    ActionQueue,
    Executor,
    NotFiniteError,
    ObservationHistory,
    executed_slice,
)


def seen(value):
    return {"x": np.array([value], dtype=np.float32)}


class CountingPolicy:
    """Predicts 100 * the newest observation + the action's index; keeps what it was shown."""

    def __init__(self, window=None):
        self.window = window or WindowSpec(n_obs_steps=2, horizon=16, n_action_steps=8)
        self.shown = []

    def predict(self, observation, generator=None):
        self.shown.append(observation["x"].clone())
        newest = observation["x"][:, -1, :]  # [B, 1]
        return (100 * newest + torch.arange(float(self.window.horizon)))[..., None]


class NoisyPolicy:
    """A small conditional 1D U-Net with random weights; four denoising steps, noise in each."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.window = WindowSpec(n_obs_steps=2, horizon=16, n_action_steps=8)
        self.context = nn.Linear(2 * 5, 64)
        self.down = nn.Conv1d(2, 64, 5, padding=2)
        self.norm = nn.GroupNorm(8, 64)
        self.half = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose1d(64, 64, 4, stride=2, padding=1)
        self.out = nn.Conv1d(64, 2, 5, padding=2)

    def predict(self, observation, generator=None):
        context = self.context(observation["x"].flatten(1))[..., None]  # [B, 64, 1]
        x = self._noise(generator)
        for _ in range(4):
            h = nn.functional.mish(self.norm(self.down(x))) + context
            x = x + self.out(self.up(self.half(h))) + 0.1 * self._noise(generator)
        return x.transpose(1, 2)

    @staticmethod
    def _noise(generators):
        return torch.stack([torch.randn(2, 16, generator=g) for g in generators])


def test_history_repeats_the_first_observation():
    history = ObservationHistory(n_rows=2, n_obs_steps=3)
    history.reset(1, seen(5))
    assert history.stacked([1])["x"].tolist() == [[[5], [5], [5]]]


def test_history_keeps_the_newest_observations_oldest_first():
    history = ObservationHistory(n_rows=1, n_obs_steps=2)
    history.reset(0, seen(1))
    for value in (2, 3, 4):
        history.append(0, seen(value))
    assert history.stacked([0])["x"].tolist() == [[[3], [4]]]


def test_history_reset_forgets_one_row_only():
    history = ObservationHistory(n_rows=2, n_obs_steps=2)
    history.reset(0, seen(1))
    history.reset(1, seen(2))
    history.append(0, seen(3))
    history.reset(1, seen(9))
    assert history.stacked([1, 0])["x"].tolist() == [[[9], [9]], [[1], [3]]]


def test_history_does_not_share_memory_with_the_observation():
    observation = seen(1)
    history = ObservationHistory(n_rows=1, n_obs_steps=1)
    history.reset(0, observation)
    observation["x"][0] = 8
    assert history.stacked([0])["x"].tolist() == [[[1]]]


def test_history_keeps_the_type_of_images():
    history = ObservationHistory(n_rows=1, n_obs_steps=2)
    history.reset(0, {"image": np.zeros((4, 4, 3), np.uint8)})
    stacked = history.stacked([0])["image"]
    assert stacked.shape == (1, 2, 4, 4, 3)
    assert stacked.dtype == np.uint8


def test_history_without_a_first_observation_names_the_row():
    history = ObservationHistory(n_rows=3, n_obs_steps=2)
    with pytest.raises(ValueError, match="row 2 has no"):
        history.append(2, seen(0))
    with pytest.raises(ValueError, match="row 2 has no"):
        history.stacked([2])


def test_a_sensor_that_comes_or_goes_within_an_episode_is_refused_by_its_name():
    history = ObservationHistory(n_rows=1, n_obs_steps=2)
    both = {**seen(1), "wrist": np.zeros(3)}
    history.reset(0, both)
    with pytest.raises(ConfigError, match=r"'wrist' is missing now: .* in every step"):
        history.append(0, seen(2))
    history.reset(0, seen(1))
    with pytest.raises(ConfigError, match="'wrist' was missing at first"):
        history.append(0, both)
    history.reset(0, both)  # the next episode has its own
    history.append(0, both)
    assert history.stacked([0])["wrist"].shape == (1, 2, 3)


@given(st.lists(st.sets(st.sampled_from("abc"), min_size=1), min_size=1, max_size=6), st.data())
def test_rows_are_divided_by_what_they_observe_and_none_is_lost(names, data):
    history = ObservationHistory(n_rows=len(names), n_obs_steps=2)
    for row, observed in enumerate(names):
        history.reset(row, {name: np.array([row]) for name in sorted(observed)})
    rows = data.draw(st.permutations(range(len(names))))
    alike = history.alike(rows)
    assert sorted(row for group in alike for row in group) == sorted(rows)
    assert len(alike) == len({frozenset(each) for each in names})
    for group in alike:
        assert group == [row for row in rows if row in group]  # in their order
        stacked = history.stacked(group)
        assert stacked.keys() == names[group[0]]
        assert all(value[:, -1, 0].tolist() == group for value in stacked.values())
    if len(alike) > 1:
        with pytest.raises(ValueError, match="observe different things"):
            history.stacked(rows)


def test_queue_is_first_in_first_out_and_replaced_whole():
    queue = ActionQueue(n_rows=2)
    queue.replace(1, np.array([[1], [2], [3]]))
    assert queue.pop(1).tolist() == [1]
    queue.replace(1, np.array([[7], [8]]))
    assert (queue.left(0), queue.left(1)) == (0, 2)
    assert queue.pop(1).tolist() == [7]
    queue.reset(1)
    with pytest.raises(IndexError, match="row 1 has no action left"):
        queue.pop(1)


def test_executed_actions_start_at_the_current_frame():
    assert list(range(16)[executed_slice(WindowSpec(2, 16, 8))]) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(range(16)[executed_slice(WindowSpec(2, 16, 8), n_action_steps=1)]) == [1]
    assert list(range(16)[executed_slice(WindowSpec(2, 16, 8), n_action_steps=15)])[-1] == 15


@pytest.mark.parametrize(("steps", "message"), [(16, "past the horizon of 16"), (0, "is 0")])
def test_an_action_slice_that_does_not_fit_is_refused(steps, message):
    with pytest.raises(ConfigError, match=message):
        Executor(CountingPolicy(), n_rows=1, n_action_steps=steps)


def test_the_policy_always_sees_a_whole_group_padded_with_the_last_row():
    policy = CountingPolicy()
    executor = Executor(policy, n_rows=18, inference_batch_size=16)
    for row in range(18):
        executor.reset(row, seen(row), seed=row)
    actions = executor.plan([17, *range(17)])
    first, second = [shown[:, -1, 0].tolist() for shown in policy.shown]
    assert first == [17, *range(15)]
    assert second == [15, *[16] * 15]
    assert actions[:, 0, 0].tolist() == [1701, *[100 * row + 1 for row in range(17)]]
    assert [call.rows for call in executor.calls] == [16, 2]


def test_acting_plans_only_for_the_rows_that_ran_out():
    policy = CountingPolicy(WindowSpec(n_obs_steps=2, horizon=4, n_action_steps=2))
    executor = Executor(policy, n_rows=2, inference_batch_size=1)
    executor.reset(0, seen(1), seed=0)
    executor.reset(1, seen(2), seed=1)
    assert executor.act([0])[:, 0].tolist() == [101]
    executor.observe(0, seen(5))
    assert executor.act([0, 1])[:, 0].tolist() == [102, 201]  # row 0 has not looked at the 5 yet
    assert len(policy.shown) == 2
    assert executor.act([0, 1])[:, 0].tolist() == [501, 202]
    assert len(policy.shown) == 3


def test_reset_drops_the_actions_of_the_last_episode():
    policy = CountingPolicy()
    executor = Executor(policy, n_rows=1, inference_batch_size=1)
    executor.reset(0, seen(1), seed=0)
    executor.act([0])
    executor.reset(0, seen(3), seed=1)
    assert executor.act([0])[0, 0] == 301


def chunks_of(executor, rows, times=3):
    return np.stack([executor.plan(rows) for _ in range(times)])  # [times, rows, Ta, A]


def test_a_row_gets_the_same_actions_bit_for_bit_wherever_it_stands_and_beside_whomever():
    rng = np.random.default_rng(0)
    observations = [{"x": rng.normal(size=5).astype(np.float32)} for _ in range(40)]
    policy = NoisyPolicy()
    alone, crowd = Executor(policy, n_rows=1), Executor(policy, n_rows=40)
    order = rng.permutation(40).tolist()
    for row in range(40):
        crowd.reset(row, observations[row], seed=row)
    crowded = chunks_of(crowd, order)
    for place, row in enumerate(order):
        alone.reset(0, observations[row], seed=row)
        assert np.array_equal(chunks_of(alone, [0])[:, 0], crowded[:, place])


class MayLackAnOffset(NoisyPolicy):
    """Adds an offset where there is one."""

    def predict(self, observation, generator=None):
        chunk = super().predict(observation, generator)
        return chunk + observation["offset"][:, -1:] if "offset" in observation else chunk


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 0, 3, 2]])
def test_a_row_that_lacks_a_sensor_changes_nobodys_actions(order):
    rng = np.random.default_rng(0)
    observations = [{"x": rng.normal(size=5).astype(np.float32)} for _ in range(4)]
    for row in (0, 3):
        observations[row]["offset"] = rng.normal(size=2).astype(np.float32)
    policy = MayLackAnOffset()
    alone, mixed = Executor(policy, n_rows=1), Executor(policy, n_rows=4)
    for row in range(4):
        mixed.reset(row, observations[row], seed=row)
    together = chunks_of(mixed, order)
    for place, row in enumerate(order):
        alone.reset(0, observations[row], seed=row)
        assert np.array_equal(chunks_of(alone, [0])[:, 0], together[:, place])


@pytest.mark.parametrize("batch_size", [-16, 0, 2, 17])
def test_batches_in_which_a_rows_place_would_matter_are_refused(batch_size):
    with pytest.raises(
        ConfigError, match=f"inference_batch_size is {batch_size}; it must be 1 or a"
    ):
        Executor(CountingPolicy(), n_rows=1, inference_batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 16, 32])
def test_the_unet_treats_a_row_the_same_bit_for_bit_wherever_it_stands(batch_size):
    torch.manual_seed(0)
    unet = ConditionalUnet1D(action_dim=2, context_dim=40, down_dims=(32, 64)).eval()
    chunk, context = torch.randn(batch_size, 16, 2), torch.randn(batch_size, 40)
    time = torch.full((batch_size,), 50)
    with torch.inference_mode():
        expected = unet(chunk, time, Context(context))
        for _ in range(5):
            order = torch.randperm(batch_size)
            assert torch.equal(unet(chunk[order], time, Context(context[order])), expected[order])


def test_rows_with_the_same_observation_differ_by_their_seed():
    executor = Executor(NoisyPolicy(), n_rows=3)
    for row, seed in enumerate((4, 4, 5)):
        executor.reset(row, {"x": np.zeros(5, np.float32)}, seed=seed)
    first, same, other = executor.plan([0, 1, 2])
    assert np.array_equal(first, same)
    assert not np.allclose(first, other)


def test_actions_that_are_not_finite_are_refused_naming_the_row():
    executor = Executor(CountingPolicy(), n_rows=3)
    for row, value in enumerate((0.0, 1.0, np.nan)):
        executor.reset(row, seen(value), seed=0)
    with pytest.raises(NotFiniteError, match="row 2"):
        executor.plan([0, 2, 1])


def test_what_follows_the_executed_actions_is_forgotten_with_the_episode():
    executor = Executor(CountingPolicy(), n_rows=1, inference_batch_size=1)
    executor.reset(0, seen(1), seed=0)
    executor.plan([0])
    assert executor.planned_next(0).tolist() == [109]  # actions 1 to 8 of the chunk are executed
    executor.reset(0, seen(2), seed=0)
    assert executor.planned_next(0) is None
