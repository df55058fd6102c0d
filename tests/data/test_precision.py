"""Which numbers need float64, and what training says of numbers that it cannot learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data import EpisodeWriter
from dipole.data.core.precision import LEVELS, coarse_columns, loses_precision
from dipole.data.loading.number_notes import number_notes
from dipole.data.loading.task_data import TaskData


@given(st.floats(8, 1e12), st.floats(-5, 6))
def test_a_column_is_coarse_where_float32_has_few_numbers_within_its_extent(size, exponent):
    values = size + np.linspace(0, 10.0**exponent, 50)[:, None]
    extent = values.max() - values.min()
    spacing = float(np.spacing(np.float32(values.max())))
    levels = extent / spacing
    if extent > 1.1e-5 and spacing > 1e-6 and not LEVELS * 0.99 < levels < LEVELS * 1.01:
        assert coarse_columns(values.min(0), values.max(0)).tolist() == [levels < LEVELS]


@given(st.floats(-8, 8), st.floats(0, 1))
def test_numbers_of_a_robots_size_need_no_float64(center, extent):
    low = np.array([center - extent / 2]).clip(-7.9, 7.9)
    assert not coarse_columns(low, (low + extent).clip(-7.9, 7.9)).any()


def test_either_order_of_bytes_is_looked_at():
    stamps = 1.7e9 + np.arange(4)[:, None] / 30
    assert loses_precision(stamps.astype(">f8"))
    assert not loses_precision(stamps.astype(np.float32))


def test_slow_clocks_of_long_episodes_need_float64():
    assert loses_precision(6e5 + np.arange(60_000)[:, None] / 30)


def notes(path, values, action=None, **changes):
    """Of a task that observes `values` and does `action`."""
    action = values if action is None else action
    names = {"pos": {"names": ["north", "east"]}}
    with EpisodeWriter(path, fps=10, features=names) as writer:
        for _ in range(3):
            writer.add_episode({"pos": values, "action": action})
    feature = {"shape": [2], **changes}
    task = {
        "name": "mine",
        "dataset": str(path),
        "observation": {"pos": feature},
        "action": feature,
        "window": {"n_obs_steps": 2, "horizon": 16, "n_action_steps": 8},
    }
    data = TaskData.open(task, None)
    return number_notes(data.train, data.train.statistics())


RNG = np.random.default_rng(0)
UTM = np.array([4649776.0, 0.0]) + RNG.normal(size=(200, 2)).cumsum(0) * 0.1


def test_columns_that_lose_their_steps_in_training_are_named(tmp_path):
    found = notes(tmp_path / "a.zarr", UTM)
    assert len(found) == 2
    assert "feature 'pos': pos[0] (north): float32" in found[0]
    assert "convert: range_to_unit" in found[0]
    assert "feature 'action': action[0]: float32" in found[1]


def test_columns_that_are_converted_lose_nothing(tmp_path):
    options = {"low": 4649700.0, "high": 4649900.0}
    convert = [{"columns": [0], "transform": "range_to_unit", "options": options}]
    assert notes(tmp_path / "a.zarr", UTM, convert=convert) == []


def test_actions_that_move_by_too_little_to_be_normalised_are_named(tmp_path):
    steps = np.stack([4e-5 * np.sin(np.arange(200) / 10), np.full(200, 0.5)], 1)
    (note,) = notes(tmp_path / "a.zarr", RNG.normal(size=(200, 2)), steps)
    assert note.startswith("action[0] moves by 8e-05 only, less than 0.0001, and is held constant")


@pytest.mark.parametrize("noise", [0, 1e-8])
def test_an_action_that_stands_still_but_for_rounding_is_not_named(tmp_path, noise):
    still = 0.5 + noise * RNG.normal(size=(200, 2))
    assert notes(tmp_path / "a.zarr", RNG.normal(size=(200, 2)), still) == []
