"""The number of threads is what was faster, and a run can fix it."""

import time

import pytest
import torch

from dipole.policy.core import threads
from dipole.policy.core.threads import use_fastest_threads


@pytest.fixture(autouse=True)
def restored():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("slower", "kept"), [(1, 4), (4, 1)])
def test_the_faster_number_is_kept_and_reported(slower, kept, monkeypatch):
    monkeypatch.setattr(threads, "LONG_ENOUGH", 60.0)
    torch.set_num_threads(4)

    def work():
        time.sleep(0.03 if torch.get_num_threads() == slower else 0.001)

    assert use_fastest_threads(work).startswith(f"{kept} of 4 (1: ")
    assert torch.get_num_threads() == kept
