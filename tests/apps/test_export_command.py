"""`dipole export`, and evaluating what it wrote."""

import json

import numpy as np
import pytest
import torch

from dipole.apps.main import main
from dipole.data import ConfigError, EpisodeWriter
from dipole.policy import Policy
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.runtimes import runnable
from dipole.policy.runtimes.export import ParityError
from dipole.policy.runtimes.exported import load_exported


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A policy of two training steps on states that Push-T could have."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    with EpisodeWriter(folder / "pushes.zarr", fps=10.0) as writer:
        state = np.concatenate([256 + rng.normal(0, 8, (40, 4)).cumsum(0), np.zeros((40, 1))], 1)
        for _ in range(2):
            writer.add_episode({"state": state.astype(np.float32), "action": state[:, :2]})
    words = ["policy.denoiser.down_dims=[8,16]", "policy.denoiser.time_embed_dim=8"]
    words += ["train.steps=2", "train.batch_size=8", "train.device=cpu"]
    output = f"output={folder / 'out'}"
    assert main(["train", f"dataset={folder / 'pushes.zarr'}", output, *words]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def export(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "onnx"
    words = ["to=onnx", "solver=ddim", "solver.steps=2", f"output={folder}"]
    assert main(["export", f"checkpoint={run}", *words]) == 0
    return folder


def evaluate(checkpoint, output, *words):
    words = ["episodes=2", "video_episodes=0", f"output={output}", *words]
    return main(["evaluate", f"checkpoint={checkpoint}", *words])


def rewards(output):
    metrics = json.loads((output / "metrics.json").read_text())
    return metrics, [episode["max_reward"] for episode in metrics["per_episode"]]


def test_an_export_names_its_source(run, export):
    schema = load_exported(export).schema
    assert schema["environment"]["name"] == "pusht"
    assert schema["source"]["checkpoint"].endswith("00000002")
    manifest = json.loads((run / "checkpoints/00000002/manifest.json").read_text())
    assert schema["source"]["sha256"] == manifest["files"]["ema.safetensors"]["sha256"]
    assert sorted(path.name for path in export.iterdir()) == [
        "manifest.json",
        "model.onnx",
        "schema.json",
    ]


def test_an_export_is_evaluated_as_its_checkpoint_is(run, export, tmp_path):
    assert evaluate(run, tmp_path / "eager", "solver=ddim", "solver.steps=2") == 0
    assert evaluate(export, tmp_path / "onnx") == 0
    eager, ours = rewards(tmp_path / "eager")
    onnx, theirs = rewards(tmp_path / "onnx")
    assert (eager["runtime"], onnx["runtime"]) == ("eager", "onnx")
    assert eager["solver"] == onnx["solver"]
    assert ours == pytest.approx(theirs, abs=0.05)  # contacts amplify the rounding


@pytest.mark.heavy
def test_auto_takes_the_faster_and_says_so(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runnable, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(runnable, "FAST_ENOUGH", 0.0)
    assert evaluate(run, tmp_path, "device=cpu", "solver=ddim", "solver.steps=2") == 0
    printed = capsys.readouterr().out
    metrics, _ = rewards(tmp_path)
    assert f"runtime: {metrics['runtime']} (eager " in printed


def test_auto_takes_the_policy_itself_where_its_export_does_not_agree(run, capsys, monkeypatch):
    seconds = {"eager": 0.02, "openvino": 0.01}
    monkeypatch.setattr(runnable, "_seconds_of", lambda *_: seconds)

    def refused(*_, **__):
        raise ParityError("the openvino export differs by 9.8e-04 of a normalised action")

    monkeypatch.setattr(runnable, "_export_to_temporary", refused)
    assert isinstance(runnable.load_runnable(run, runtime="auto"), Policy)
    assert "runtime: eager, because the openvino export differs by" in capsys.readouterr().out
    with pytest.raises(ParityError, match="differs by"):
        runnable.load_runnable(run, runtime="openvino")


@pytest.mark.parametrize(
    ("seconds", "calls", "steps"), [(0.004, 1e9, 2), (0.1, 100, 2), (6.0, 20, 1000)]
)
def test_auto_converts_nothing_where_little_is_to_be_saved(run, monkeypatch, seconds, calls, steps):
    """Of a thousand steps, all written out, the conversion takes minutes."""
    monkeypatch.setattr(runnable, "least_seconds", lambda _: {"eager": seconds})
    monkeypatch.setattr(runnable, "_export_to_temporary", lambda *_: pytest.fail("converted"))
    solver = {"name": "ddim", "steps": steps}
    found = runnable.load_runnable(run, runtime="auto", calls=calls, solver=solver)
    assert isinstance(found, Policy)


@pytest.mark.heavy
def test_what_is_known_of_a_chunk_goes_to_the_policy_that_was_exported(run, export):
    ours = runnable.load_runnable(run, runtime="openvino")
    observation, noise = ours.fake_observation(1), torch.randn(1, 16, 2)
    values = ours.predict(observation, noise=noise) + 30
    known = KnownChunk(values, torch.ones_like(values))
    assert "known" in ours.supports
    assert torch.allclose(ours.predict(observation, noise=noise, known=known), values, atol=0.5)
    artefact = load_exported(export)
    assert "known" not in artefact.supports
    with pytest.raises(ConfigError, match="takes no known parts of a chunk: give the checkpoint"):
        artefact.predict(observation, noise=noise, known=known)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runtime=openvino"], "is an export for onnx, not for openvino"),
        (["solver.steps=5"], "solver is part of it, with steps=2"),
    ],
)
def test_what_an_export_cannot_do_is_refused(export, tmp_path, capsys, words, message):
    assert evaluate(export, tmp_path, *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("sizes", ["[]", "[0]", "[1,-2]"])
def test_an_export_for_no_batch_is_refused(run, tmp_path, capsys, sizes):
    words = [f"checkpoint={run}", "to=onnx", f"batch_sizes={sizes}", f"output={tmp_path / 'x'}"]
    assert main(["export", *words]) == 2
    assert "give one size or more, each at least 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_runtime_is_refused(run, tmp_path, capsys):
    assert evaluate(run, tmp_path, "runtime=tensorrt") == 2
    assert "unknown runtime 'tensorrt'; known: eager, auto" in capsys.readouterr().err
    assert main(["export", f"checkpoint={run}", "to=onxx", f"output={tmp_path / 'x'}"]) == 2
    assert "unknown runtime 'onxx', did you mean 'onnx'?" in capsys.readouterr().err
