"""Batches that several processes share: none draws what another has drawn."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from toy_fixture import batch_of, method

from dipole.policy.core.components import OBJECTIVES
from dipole.policy.core.row_draws import RowDraws, first_rows


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


@pytest.mark.parametrize(
    ("name", "options"), [("shortcut", {}), ("meanflow", {}), ("meanflow", {"to_clean": 1.0})]
)
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_times_of_all_rows_are_those_of_one_process(name, options, ranks):
    made, rows = method(OBJECTIVES[name], **options), 8

    def times(rank, ranks):
        with RowDraws(rank, ranks, rows, 7, lambda each: each) as draws:
            return torch.stack(made._times(draws.rows, draws.rows, torch.device("cpu")))

    whole = times(0, 1)
    for rank in range(ranks):
        assert torch.equal(times(rank, ranks), whole[:, rank::ranks])


@given(total=st.integers(2, 40), ranks=st.integers(1, 4), share=st.floats(0, 1), seed=st.integers())
def test_the_first_rows_of_all_processes_are_those_of_one(total, ranks, share, seed):
    ranks = min(ranks, total)
    parts = []
    for rank in range(ranks):
        with RowDraws(rank, ranks, total, seed % 2**31, lambda each: each) as draws:
            first = first_rows(share, draws.rows)
            assert bool(first.here) == bool(share) or total <= 1 / max(share, 1e-9)
            with first.drawn():
                drawn = torch.rand(first.here, 2)
            parts.append((first, draws.rows, drawn, torch.rand(draws.rows)))
    totals = {first.total for first, *_ in parts}
    assert len(totals) == 1
    assert sum(first.here for first, *_ in parts) == totals.pop()
    # A mean over the first rows of all is the mean of the processes' means, weighed by their rows.
    every = torch.cat([drawn for _, _, drawn, _ in parts])
    if len(every):
        whole = sum(
            rows / total * first.weight * float(drawn.mean()) for first, rows, drawn, _ in parts
        )
        assert whole == pytest.approx(float(every.mean()), abs=1e-5)
        assert len(every.unique()) == every.numel()  # none draws what another has drawn
    assert len(torch.cat([after for *_, after in parts]).unique()) == total


@pytest.mark.parametrize("name", ["ctm", "segmented", "consistency_training"])
def test_what_is_drawn_for_part_of_a_batch_is_of_its_rows(name, monkeypatch):
    made = method(OBJECTIVES[name], process="flow")
    batch, seen = batch_of(made, 8), []
    made(batch)  # grids of levels are made once
    estimate_at = made.head.estimate_at
    monkeypatch.setattr(
        made.head, "estimate_at", lambda x, *rest: seen.append(x) or estimate_at(x, *rest)
    )
    process = made.head.process
    level = process.level
    monkeypatch.setattr(process, "level", lambda times: seen.append(times) or level(times))
    in_each_process(lambda: made(batch))
    half = len(seen) // 2
    assert half
    for one, other in zip(seen[:half], seen[half:], strict=True):
        assert not torch.equal(one, other)
