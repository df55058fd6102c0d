"""The normaliser against PARITY's literal numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipole.data import ConfigError, Statistics
from dipole.policy.normalizer import Normalizer

PUSHT_LIMITS = np.array([[12.0, 25.0], [511.0, 511.0]])


def test_limits_of_the_human_push_t_actions():
    normalizer = Normalizer.limits(PUSHT_LIMITS)
    assert normalizer.scale.tolist() == pytest.approx([0.00400802, 0.00411523], abs=1e-8)
    assert normalizer.offset.tolist() == pytest.approx([-1.04809619, -1.10288066], abs=1e-7)
    middle = normalizer.normalize(torch.tensor([256.0, 256.0]))
    assert middle.tolist() == pytest.approx([-0.02204409, -0.04938272], abs=1e-6)


def test_arrays_and_integers_are_taken_as_they_come():
    normalizer = Normalizer.limits(PUSHT_LIMITS)
    from_array = normalizer.normalize(np.array([256, 256]))
    assert torch.equal(from_array, normalizer.normalize(torch.tensor([256.0, 256.0])))
    assert normalizer.unnormalize(from_array.numpy()).tolist() == pytest.approx([256, 256])


def test_limits_send_the_extremes_to_one():
    normalizer = Normalizer.limits(PUSHT_LIMITS)
    ends = normalizer.normalize(torch.tensor(PUSHT_LIMITS))
    assert torch.allclose(ends, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), atol=1e-6)


def test_a_constant_dimension_is_only_shifted_and_named():
    normalizer = Normalizer.limits(np.array([[0.0, 5.0], [1.0, 5.00005]]))
    assert normalizer.constant == [1]
    assert normalizer.scale.tolist() == [2.0, 1.0]
    assert normalizer.offset.tolist() == [-1.0, -5.0]


def test_gaussian_uses_the_unbiased_deviation():
    array = np.array([[1.0], [2.0], [3.0], [4.0]])
    normalizer = Normalizer.gaussian(array)
    assert float(normalizer.scale) == pytest.approx(1 / np.std(array, ddof=1))
    assert float(normalizer.offset) == pytest.approx(-2.5 / np.std(array, ddof=1))


def zero_statistics(shape):
    from dipole.data import Statistics

    return Statistics.of(np.zeros((2, *shape)))


def test_parameters_live_in_the_state_dict():
    normalizer = Normalizer.limits(PUSHT_LIMITS)
    assert set(normalizer.state_dict()) == {"scale", "offset"}


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=20),
    st.sampled_from(["limits", "gaussian"]),
)
def test_unnormalize_is_the_inverse(rows, kind):
    array = np.array(rows)
    normalizer = getattr(Normalizer, kind)(array).double()
    x = torch.tensor(array)
    back = normalizer.unnormalize(normalizer.normalize(x))
    assert torch.allclose(back, x, atol=1e-2, rtol=1e-4)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="unknown normalisation 'minmax'"):
        Normalizer.from_statistics("minmax", zero_statistics((2,)))


def test_quantiles_go_to_one_and_what_lies_beyond_is_not_clipped():
    array = np.concatenate([np.linspace(0, 100, 1001), [1e4]])[:, None]
    normalizer = Normalizer.from_statistics("quantiles", Statistics.of(array))
    q01, q99 = np.quantile(array, [0.01, 0.99])
    ends = normalizer.normalize(torch.tensor([[q01], [q99], [(q01 + q99) / 2]]))
    assert ends.flatten().tolist() == pytest.approx([-1, 1, 0], abs=1e-5)
    assert float(normalizer.normalize(torch.tensor([1e4]))) > 100
    assert float(normalizer.unnormalize(normalizer.normalize(torch.tensor([1e4])))) == (
        pytest.approx(1e4, rel=1e-4)
    )


def test_an_entry_that_rarely_moves_is_normalised_by_its_limits():
    gripper = np.zeros((1000, 1))
    gripper[:5] = 0.08
    normalizer = Normalizer.from_statistics("quantiles", Statistics.of(gripper))
    ends = normalizer.normalize(torch.tensor([[0.0], [0.08]]))
    assert ends.flatten().tolist() == pytest.approx([-1, 1], abs=1e-5)
    assert normalizer.constant == []


def test_a_constant_entry_is_constant_by_quantiles_too():
    normalizer = Normalizer.from_statistics("quantiles", Statistics.of(np.full((9, 1), 5.0)))
    assert normalizer.constant == [0]
    assert normalizer.normalize(torch.tensor([5.0])).tolist() == [0]


def test_statistics_without_quantiles_are_refused():
    whole = Statistics.of(np.array([[0.0], [1.0]]))
    with pytest.raises(ConfigError, match="statistics with quantiles"):
        Normalizer.from_statistics("quantiles", replace(whole, q01=None))


def test_a_rescaling_is_folded_into_scale_and_offset():
    normalizer = Normalizer.limits(PUSHT_LIMITS)
    x = torch.tensor([3.0, -7.0])
    scale, offset = torch.tensor([2.0, 0.5]), torch.tensor([10.0, 100.0])
    expected = normalizer.normalize(scale * x + offset)
    normalizer.fold(scale, offset)
    assert torch.allclose(normalizer.normalize(x), expected, atol=1e-6)
    assert torch.allclose(normalizer.unnormalize(expected), x, atol=1e-4)
