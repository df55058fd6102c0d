"""Trajectory methods as runs: from the command line, and resumed to the last bit."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from training_fixture import SMALL, make_trainer, stop_at, write_dataset

from dipole.apps.main import main
from dipole.policy.core.components import OBJECTIVES

pytestmark = pytest.mark.heavy
METHODS = ("consistency", "ctm", "segmented", "lcm", "consistency_training")
TINY = ["policy.denoiser.down_dims=[8,16]", "policy.denoiser.time_embed_dim=8"]
SHORT = ["train.batch_size=8", "train.validate_every=0", "train.threads=1"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    demos, teacher = folder / "fork.zarr", folder / "teacher"
    assert main(["record", "task=fork", "expert=fork", "episodes=2", f"output={demos}"]) == 0
    words = ["task=fork", f"dataset={demos}", "policy=unet_small", *TINY, *SHORT, "train.steps=2"]
    assert main(["train", *words, f"output={teacher}"]) == 0
    return teacher


@pytest.mark.parametrize("method", METHODS)
def test_a_student_is_trained_and_evaluated(method, teacher, tmp_path, capsys):
    student = tmp_path / "student"
    words = [f"teacher={teacher}", f"method={method}", *SHORT, "train.steps=2"]
    assert main(["distill", *words, f"output={student}"]) == 0
    said = capsys.readouterr().out
    assert ("guidance_scale=1 alone" in said) == (method == "lcm")
    assert ("has no teacher" in said) == (method == "consistency_training")
    few = ["solver.steps=1", "episodes=1", "video_episodes=0", "picture=false"]
    assert main(["evaluate", f"checkpoint={student}", *few, f"output={tmp_path / 'e'}"]) == 0


@pytest.mark.parametrize("method", ["segmented", "consistency_training", "lcm"])
def test_a_run_that_is_broken_off_goes_on_as_if_it_had_not_been(method, tmp_path):
    data, taught = write_dataset(tmp_path / "data.zarr"), tmp_path / "teacher"
    flow = {"process": {"name": "flow"}}
    make_trainer(taught, data, policy=flow).fit()
    kind = OBJECTIVES[method]
    policy = kind.student({"denoiser": SMALL, "head": {"name": "diffusion"}, **flow}, {})
    more = {"teacher": str(taught)} if kind.needs_teacher else {}
    run = {"objective": {"name": method, **more}, "policy": policy}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    trainer = make_trainer(whole, data, **run)
    trainer.fit()
    stop_at(make_trainer(broken, data, **run), 6)
    resumed = make_trainer(broken, data, **run)
    assert resumed.state.step == 4
    resumed.fit()
    ours, theirs = (each.state.objective.policy.state_dict() for each in (resumed, trainer))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
