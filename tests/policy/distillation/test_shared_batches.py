"""Batches that several processes share: none draws what another has drawn."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_fixture import batch_of, method

from dipole.policy.core.components import OBJECTIVES
from dipole.policy.core.row_draws import RowDraws


def in_each_process(draw):
    found = []
    for rank in (0, 1):
        with RowDraws(rank, 2, 16, 7, lambda each: each):
            found.append(draw())
    return found


def test_new_pairs_of_part_of_a_batch_begin_with_noise_of_their_own():
    made = method(OBJECTIVES["reflow"], reuse=4, steps=1)
    batch = batch_of(made, 8)
    one, other = in_each_process(lambda: made.pairs(batch).noise[:2])  # a quarter is new
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", ["shortcut", "meanflow"])
def test_times_of_part_of_a_batch_are_of_its_rows(name):
    made = method(OBJECTIVES[name])
    one, other = in_each_process(lambda: torch.stack(made._times(2, 8, torch.device("cpu"))))
    assert not torch.equal(one[:, 2:], other[:, 2:])
    assert not torch.equal(one[:, :2], other[:, :2])
