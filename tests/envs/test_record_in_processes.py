"""Recording in processes: killed and resumed, and a worker that dies."""

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dipole.data import EpisodeStore
from dipole.envs.experts.processes import ordered
from dipole.envs.rollout import RolloutError

sys.path.insert(0, str(Path(__file__).parent))  # worker processes find the module the same way
from experts import Closed, Twice

pytestmark = pytest.mark.heavy


def test_results_come_in_the_order_of_the_seeds_and_end_with_them():
    with ordered(Twice, range(12), 3) as made:
        assert list(made) == [2 * seed for seed in range(12)]


def test_a_process_that_ends_and_an_error_are_said_after_what_was_made_before():
    found = []
    died = pytest.raises(RolloutError, match="exit code 3 in the episode of seed 13")
    with ordered(Twice, range(10, 20), 2) as made, died:
        found.extend(made)
    assert found == [20, 22, 24]
    found = []
    raised = pytest.raises(RolloutError, match="27 is no seed")
    with ordered(Twice, range(20, 30), 2) as made, raised:
        found.extend(made)
    assert found == [40, 42, 44, 46, 48, 50, 52]
    with ordered(Twice, range(24, 30), 2) as made:
        assert [next(made) for _ in range(3)] == [48, 50, 52]


def test_what_was_made_in_a_process_is_closed_there_and_an_interrupt_does_not_end_it(tmp_path):
    with ordered(partial(Closed, tmp_path), range(3), 2) as made:
        assert list(made) == [True] * 3
    assert len(list(tmp_path.iterdir())) == 2


def test_a_recording_that_was_killed_goes_on_in_any_number_of_processes(tmp_path):
    pytest.importorskip("gym_pusht")
    words = [sys.executable, "-m", "dipole.apps.main", "record", "task=pusht_state"]
    words += ["episodes=8", "seed=1000003", "resume=true"]
    whole, killed = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    subprocess.run([*words, f"output={whole}"], check=True)
    process = subprocess.Popen([*words, "workers=2", f"output={killed}"])
    commits = tmp_path / ".killed.zarr.partial" / "store" / "unfinished" / "commits"
    deadline = time.monotonic() + 300
    while not commits.exists() or commits.stat().st_size < 1000:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    subprocess.run([*words, "workers=2", f"output={killed}"], check=True)
    one, two = EpisodeStore.open(whole), EpisodeStore.open(killed)
    assert one.keys() == two.keys() == ["action", "executed_action", "state"]
    for key in one.keys():  # noqa: SIM118
        np.testing.assert_array_equal(one[key][:], two[key][:])
    assert two.episode_numbers()["seed"].tolist() == one.episode_numbers()["seed"].tolist()
