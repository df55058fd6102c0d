"""Runs that are copied to object storage and read from there, by the commands."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "policy"))
from memory_store import broken, memory_store, names, puts
from pushes import write_pushes

from dipole.apps.main import main
from dipole.apps.python import composed
from dipole.deploy.inference.process import FromCheckpoint
from dipole.deploy.server.load import load_model, newest_of
from dipole.policy import load_policy
from dipole.policy.checkpoint import checkpoints_of, read_config
from dipole.policy.training.distill import student_run
from dipole.policy.training.output.logs import read_log

pytest.importorskip("obstore", reason="needs obstore: pip install 'dipole[object-storage]'")
pytestmark = pytest.mark.heavy
URL = "s3://robots/runs/first"
COPIED = f"train.copy_to={URL}"
KEPT = ("step", "train/", "validation/", "evaluation/score")
TINY = [
    "policy.denoiser.down_dims=[8,16]",
    "policy.denoiser.time_embed_dim=8",
    "train.batch_size=8",
    "train.device=cpu",
    "train.deterministic=true",
    "train.log_every=1",
    "evaluate.episodes=1",
]


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    with memory_store(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """States and actions that Push-T could have."""
    return write_pushes(tmp_path_factory.mktemp("data") / "pushes.zarr")


def train(dataset, output, *words):
    return main(["train", f"dataset={dataset}", f"output={output}", *TINY, *words])


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "first"
    assert train(dataset, output, "train.steps=4", "train.evaluate_every=2", COPIED) == 0
    return output


def test_a_run_goes_on_elsewhere_as_it_would_have_here(run, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(run, here)
    for words in ([f"resume={here}", "train.copy_to=null"], [f"resume={URL}", f"output={there}"]):
        assert main(["train", *words, "train.steps=6", "train.evaluate_every=0"]) == 0
    ours, theirs = checkpoints_of(here)[-1], checkpoints_of(there)[-1]
    assert ours.name == theirs.name == "00000006"
    for file in ours.glob("*.safetensors"):
        mine, yours = load_file(file), load_file(theirs / file.name)
        assert [name for name in mine if not torch.equal(mine[name], yours[name])] == []
    logs = [
        [{k: value for k, value in line.items() if k.startswith(KEPT)} for line in read_log(log)]
        for log in (here / "log.jsonl", there / "log.jsonl")
    ]
    assert logs[0] == logs[1]
    assert "checkpoints/00000006/manifest.json" in names(URL)
    assert main(["train", f"resume={URL}", f"output={run}"]) == 0  # which is behind, and fetches
    assert checkpoints_of(run)[-1].name == "00000006"


def test_a_copy_is_evaluated_begun_with_and_taught_by(run, dataset, tmp_path):
    newest, output = f"{URL}/checkpoints/{checkpoints_of(run)[-1].name}", tmp_path / "evaluated"
    words = ["episodes=1", "video_episodes=0", "picture=false", "workers=0", f"output={output}"]
    assert main(["evaluate", f"checkpoint={URL}", *words]) == 0
    assert json.loads((output / "metrics.json").read_text())["checkpoint"] == newest
    words = ["train.steps=1", f"train.init.from={URL}/best"]
    assert train(dataset, tmp_path / "begun", *words) == 0
    best = json.loads((run / "best.json").read_text())["checkpoint"]
    init = read_config(checkpoints_of(tmp_path / "begun")[-1])["init"]
    assert init["checkpoint"] == f"{URL}/checkpoints/{best}"
    student = student_run(composed("distill", {"teacher": URL})).config
    assert student["objective"]["teacher"] == newest
    assert student["train"]["init"]["from"] == newest


def test_a_server_follows_a_copy(run):
    terms = FromCheckpoint(f"{URL}/best")
    schema, _ = load_model(terms, 1)
    assert newest_of(terms, 1)(schema.fingerprint) is None
    assert load_policy(f"{URL}/best").window == load_policy(run / "best").window


def test_what_could_not_be_copied_is_said_and_sent_later(dataset, tmp_path, capsys):
    output, url = tmp_path / "run", "s3://robots/runs/second"
    with puts(broken("model.safetensors")):
        assert train(dataset, output, "train.steps=2", f"train.copy_to={url}") == 1
    told = capsys.readouterr().out
    assert "trained 2 steps" in told
    assert "the cable was pulled out" in told
    assert f"send what is missing with: dipole train resume={output}" in told
    assert main(["train", f"resume={output}"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert "checkpoints/00000002/manifest.json" in names(url)


def test_a_place_that_holds_a_run_is_refused_before_anything_is_written(
    run, dataset, tmp_path, capsys
):
    assert train(dataset, tmp_path / "third", "train.steps=1", COPIED) == 2
    assert f"{COPIED} already holds a run" in capsys.readouterr().err
    assert not os.path.exists(tmp_path / "third")
