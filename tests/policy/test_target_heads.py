"""Heads that tell stored numbers from an encoder's features: their errors, and means of these."""

import pytest
import torch

from dipole.data import Feature
from dipole.policy.heads.base import MeanError
from dipole.policy.training.objectives.target_heads import TargetPredictor
from dipole.policy.training.validation import MeanErrors, errors_text


def predictor(each=False, units="rad", shape=(2,)):
    torch.manual_seed(0)
    feature = Feature(shape, units=units)
    made = TargetPredictor(feature, {"front": 3, "wrist": 3}, each, hidden=4)
    made.normalizer.scale.fill_(0.5)
    return made.eval()


def seen(rows=3, frames=2):
    return {name: torch.randn(rows, frames, 3) for name in ("front", "wrist")}


def test_an_error_is_the_mean_absolute_difference_in_the_target_s_units():
    made, features = predictor(units=("rad", "m")), seen()
    values = torch.randn(3, 2, 2)
    found = made.error(features, values, None, {})
    difference = (made(features)[0] - 0.5 * values).abs() / 0.5
    assert set(found.errors) == {"rad", "m"}
    for number, unit in enumerate(("rad", "m")):
        one = found.errors[unit]
        assert float(one.total / one.count) == pytest.approx(float(difference[..., number].mean()))
    assert float(found.squared) == pytest.approx(float((0.25 * difference**2).mean()))


@pytest.mark.parametrize("each", [False, True])
def test_what_is_past_an_episode_or_missing_counts_nothing(each):
    made, features, values = predictor(each), seen(), torch.randn(3, 2, 2)
    counted = torch.tensor([[True, False], [True, True], [False, False]])
    found = made.error(features, values, counted, {})
    views = made(features)
    expected = torch.stack([(v - 0.5 * values)[counted].square().mean() for v in views]).mean()
    assert float(found.squared) == pytest.approx(float(expected))
    nothing = made.error(features, values, torch.zeros(3, 2, dtype=torch.bool), {})
    assert float(nothing.squared) == 0
    assert float(nothing.errors["rad"].count) == 0


def test_a_head_counts_no_row_whose_cameras_are_missing():
    values, features = torch.randn(3, 2, 2), seen()
    lacks = {"wrist": torch.tensor([False, True, True])}
    alone, joined = predictor(each=True), predictor()
    front, wrist = alone(features)
    found = alone.error(features, values, None, lacks)
    squares = [
        *(front - 0.5 * values).square().flatten(),
        *(wrist - 0.5 * values)[0].square().flatten(),
    ]
    assert float(found.squared) == pytest.approx(float(torch.stack(squares).mean()))
    whole = joined.error(features, values, None, {})
    assert torch.equal(joined.error(features, values, None, lacks).squared, whole.squared)
    both = {**lacks, "front": torch.tensor([True, False, True])}
    left = joined.error(features, values, None, both).squared
    expected = (joined(features)[0] - 0.5 * values)[:2].square().mean()
    assert float(left) == pytest.approx(float(expected))


def test_means_over_batches_are_those_of_all_their_numbers():
    sums = MeanErrors()
    for total, count in ((6.0, 2), (2.0, 6), (0.0, 0)):
        sums.add({"joints/rad": MeanError(torch.tensor(total), torch.tensor(count))})
    sums.add({"lid": MeanError(torch.tensor(0.0), torch.tensor(0))})
    assert sums.means() == {"error/joints/rad": 1.0}
    assert errors_text(sums.means()) == "joints 1 rad"
