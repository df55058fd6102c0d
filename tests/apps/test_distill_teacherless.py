"""`dipole distill` with methods that have no teacher, or learn from its pairs: trained, resumed bit
for bit, evaluated."""

import json

import pytest
import torch

from dipole.apps.main import main
from dipole.policy.checkpoint import read_tensors

pytestmark = pytest.mark.heavy
TINY = ["policy.denoiser.down_dims=[8,16]", "policy.denoiser.time_embed_dim=8"]
SHORT = ["train.batch_size=8", "train.validate_every=0", "train.threads=1"]
SHORT += ["train.deterministic=true", "train.checkpoint_every=2"]
POOLED = ("reflow", "regression")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    demos, run = folder / "fork.zarr", folder / "teacher"
    assert main(["record", "task=fork", "expert=fork", "episodes=4", f"output={demos}"]) == 0
    words = ["task=fork", f"dataset={demos}", "policy=unet_small", "policy/process=vp", *TINY]
    assert main(["train", *words, *SHORT, "train.steps=2", f"output={run}"]) == 0
    return run


@pytest.mark.parametrize("method", ["shortcut", "meanflow", "reflow", "regression"])
def test_a_student_is_resumed_bit_for_bit_and_evaluated_in_one_step(method, teacher, tmp_path):
    more = ["method.steps=2", "method.pool=6"] if method in POOLED else []
    words = [f"teacher={teacher}", f"method={method}", *more, *SHORT]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for run in (whole, broken):
        assert main(["distill", *words, "train.steps=4", f"output={run}"]) == 0
    last = broken / "checkpoints" / "00000004"
    for each in last.iterdir():
        each.unlink()
    last.rmdir()
    assert main(["train", f"resume={broken}"]) == 0
    stems = ["model", "ema", *(["helpers"] if method in POOLED else [])]
    for stem in stems:
        one, other = (read_tensors(run / "checkpoints/00000004", stem) for run in (whole, broken))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), stem
    evaluation = tmp_path / "evaluation"
    few = ["episodes=1", "video_episodes=0", "picture=false", f"output={evaluation}"]
    assert main(["evaluate", f"checkpoint={whole}", "solver.steps=1", *few]) == 0
    assert json.loads((evaluation / "metrics.json").read_text())["evaluations_per_chunk"] == 1


def test_heads_without_a_solver_are_asked_for_nothing_but_one_step(teacher, tmp_path, capsys):
    student = tmp_path / "student"
    words = [f"teacher={teacher}", "method=regression", "method.pool=0", *SHORT, "train.steps=1"]
    assert main(["distill", *words, f"output={student}"]) == 0
    assert main(["evaluate", f"checkpoint={student}", "solver.steps=2", "episodes=1"]) != 0
    assert "'regression' has no solver to set" in capsys.readouterr().err
