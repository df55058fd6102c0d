"""The choice of threads is made again when a step's time says that the machine has changed."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import make_trainer, write_dataset

from dipole.policy.core.threads import Threads
from dipole.policy.training import TrainConfig
from dipole.policy.training.hardware import thread_tuner as processor
from dipole.policy.training.hardware.thread_tuner import CHANGED, ThreadTuner

TWO, ROWS = Threads(2), Threads(1, batch=2)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "walk.zarr")


@pytest.fixture
def cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def said():
    return []


@pytest.fixture
def make(tmp_path, dataset, cores, said, monkeypatch):
    monkeypatch.setattr(processor, "KEPT", 0.0)

    def build(**config):
        policy = make_trainer(tmp_path, dataset).state.policy
        return ThreadTuner(policy, TrainConfig(**config), lambda threads: None, said.append)

    return build


def test_again_when_steps_become_slower_or_faster(make):
    used = make()
    used.choose()
    assert not used.has_changed(1.0)
    assert not used.has_changed(0.9 * CHANGED)
    assert used.has_changed(1.1 * CHANGED)
    used.choose()
    assert not used.has_changed(1.1 * CHANGED), "the new choice has its own time to compare with"
    assert used.has_changed(1.0)


def test_a_choice_is_kept_for_a_while(make, monkeypatch):
    used = make()
    monkeypatch.setattr(processor, "KEPT", 60.0)
    used.choose()
    used.has_changed(1.0)
    assert not used.has_changed(10 * CHANGED)


@pytest.mark.parametrize("config", [{"deterministic": True}, {"threads": 2}])
def test_what_is_fixed_stays(make, said, config):
    used = make(**config)
    assert used.choose() == ROWS
    assert not used.has_changed(1.0)
    assert not used.has_changed(100.0)
    assert said == []


def test_a_run_goes_on_with_the_new_choice(tmp_path, dataset, cores, monkeypatch):
    """Every report is of another machine, and each choice is another one."""
    choices = [TWO, ROWS, Threads(1), TWO]
    made = []

    def choose(self):
        made.append(choices[len(made) % len(choices)])
        torch.set_num_threads(made[-1].intra_op)
        return made[-1]

    monkeypatch.setattr(ThreadTuner, "choose", choose)
    monkeypatch.setattr(ThreadTuner, "has_changed", lambda self, seconds: True)
    trainer = make_trainer(tmp_path, dataset, steps=8, log_every=2)
    assert trainer.fit() is None
    assert trainer.state.step == 8
    assert made == choices, "at the beginning and after 2, 4 and 6 of 8 steps"
    assert "forward" not in trainer.state.policy.head.denoiser.__dict__
