"""A teacher's labels at a student's states, from the command line to a policy trained on them."""

import json

import numpy as np
import pytest
import torch

from dipole.apps.main import main
from dipole.data import EpisodeStore, Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.checkpoint import Checkpoint, policy_config, save_checkpoint

pytestmark = pytest.mark.heavy
FEW_STEPS = ["solver=ddim", "solver.steps=1"]


def tiny(folder, seed):
    """A policy for Fork that was never trained."""
    torch.manual_seed(seed)
    features = Features({"state": Feature((2,))}, Feature((2,), kind="action", units="m"), 10.0)
    denoiser = {"name": "unet1d", "down_dims": [8, 16], "time_embed_dim": 8}
    policy = Policy(PolicyConfig(denoiser=denoiser), features, WindowSpec())
    save_checkpoint(folder, Checkpoint(policy_config(policy), {"ema": policy.state_dict()}, {}))
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Settings of a recording of Fork."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [f"teacher={tiny(folder / 'teacher', 0)}", f"student={tiny(folder / 'student', 1)}"]
    limits = ["+task.environment.max_steps=20", "seed=3"]
    return ["record", "task=fork", *runs, *FEW_STEPS, *limits]


def files(path):
    return {each.relative_to(path): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def test_failures_of_a_student_are_kept_with_their_labels(words, tmp_path, capsys):
    path = tmp_path / "d.zarr"
    assert main([*words, "episodes=2", "label_every=4", "label_length=9", f"output={path}"]) == 0
    assert "2 (seeds 3, 4) failed" in capsys.readouterr().out
    store = EpisodeStore.open(path)
    assert sorted(store.keys()) == ["action", "state", "teacher_chunk", "teacher_chunk_valid"]
    assert store["teacher_chunk"].shape == (40, 9, 2)
    assert store.schema("teacher_chunk")["units"] == "m"
    assert np.flatnonzero(store["teacher_chunk_valid"][:]).tolist() == list(range(0, 40, 4))
    assert store.episode_numbers()["success"].tolist() == [0, 0]
    said = store.attributes["recording"]
    assert (said["keep"], said["teaching"]["every"]) == ("all", 4)
    assert len(said["teaching"]["sha256"]["student"]) == 64
    assert main(["data", "validate", str(path)]) == 0
    assert main(["data", "replay", str(path)]) == 0


def test_a_recording_is_the_same_in_processes_and_when_it_is_resumed(words, tmp_path, capsys):
    more, paths = ["teacher_acts=0.5"], [tmp_path / f"{name}.zarr" for name in "abc"]
    assert main([*words, *more, "episodes=3", f"output={paths[0]}"]) == 0
    assert main([*words, *more, "episodes=3", "workers=2", f"output={paths[1]}"]) == 0
    assert main([*words, *more, "episodes=1", f"output={paths[2]}"]) == 0
    resumed = [*words, *more, "episodes=3", "resume=true", f"output={paths[2]}"]
    assert main(resumed) == 0
    whole = files(paths[0])
    assert files(paths[1]) == whole
    one, other = EpisodeStore.open(paths[0]), EpisodeStore.open(paths[2])
    for key in one.keys():  # noqa: SIM118
        np.testing.assert_array_equal(one[key][:], other[key][:])
    capsys.readouterr()
    assert main([word for word in resumed if word not in more]) == 1
    assert "'teacher_acts': 0.5" in capsys.readouterr().err


def test_a_policy_is_trained_on_labels_and_demonstrations_and_evaluated(words, tmp_path):
    path, run = tmp_path / "labelled.zarr", tmp_path / "run"
    assert main([*words, "episodes=3", f"output={path}"]) == 0
    labelled = f"{{path: {path}, weight: 0.5, action: {{source: teacher_chunk, chunks: true}}}}"
    datasets = (
        f"+task.datasets={{labelled: {labelled}, shown: {{path: 'bundled:fork', weight: 0.5}}}}"
    )
    small = ["policy=unet_small", "policy.denoiser.down_dims=[8,16]", "train.steps=2"]
    small += ["train.batch_size=8", "train.evaluate_every=0", f"output={run}"]
    assert main(["train", "task=fork", "task.dataset=null", datasets, *small]) == 0
    config = json.loads(next(run.glob("checkpoints/*/config.json")).read_text())
    assert [part["name"] for part in config["dataset"]["parts"]] == ["labelled", "shown"]
    assert main(["evaluate", f"checkpoint={run}", "episodes=1", f"output={tmp_path / 'e'}"]) == 0
    alone = ["+task.action.source=teacher_chunk", "+task.action.chunks=true"]
    second = [word for word in small if not word.startswith("output")]
    assert main(["train", "task=fork", f"dataset={path}", *alone, *second, f"output={run}2"]) == 0
    assert main(["evaluate", f"checkpoint={run}2", "episodes=1", f"output={tmp_path / 'f'}"]) == 0
