"""Loading checkpoints: what is damaged or missing is named, and nothing is executed."""

import builtins
import json
import os
import pickle
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import make_trainer, write_dataset

from dipole.data import CheckpointError, ConfigError
from dipole.policy import load_policy
from dipole.policy.checkpoint import Checkpoint, checkpoints_of, find_checkpoint, save_checkpoint
from dipole.policy.core.files import atomic_directory, remove_leftovers


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    dataset = write_dataset(folder / "walk.zarr")
    make_trainer(folder / "run", dataset, steps=2, checkpoint_every=1).fit()
    return folder / "run"


@pytest.fixture
def checkpoint(run, tmp_path):
    """A copy to damage."""
    return Path(shutil.copytree(checkpoints_of(run)[-1], tmp_path / "00000002"))


def test_a_run_means_its_newest_checkpoint(run):
    assert find_checkpoint(run) == run / "checkpoints" / "00000002"
    assert find_checkpoint(run / "checkpoints" / "00000001").name == "00000001"


def test_average_and_raw_weights_differ_and_both_predict(run):
    ema, raw = load_policy(run), load_policy(run, weights="raw")
    assert not ema.training
    observation, noise = ema.fake_observation(1), torch.randn(1, 8, 2)
    a, b = (policy.predict(observation, noise=noise) for policy in (ema, raw))
    assert a.shape == b.shape == (1, 8, 2)
    with pytest.raises(ConfigError, match="weights is 'best': choose ema or raw"):
        load_policy(run, weights="best")


def test_what_is_loaded_predicts_as_what_was_saved(run, tmp_path):
    trainer = make_trainer(tmp_path, run.parent / "walk.zarr", steps=3)
    trainer.fit()
    policy = trainer.state.ema.model
    observation, noise = policy.fake_observation(2), torch.randn(2, 8, 2)
    loaded = load_policy(tmp_path)
    assert torch.equal(
        loaded.predict(observation, noise=noise), policy.predict(observation, noise=noise)
    )
    assert loaded.features == policy.features
    assert loaded.window == policy.window


def test_loading_unpickles_and_evaluates_nothing(run, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("loading must not execute")

    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
        (builtins, "eval"),
    ):
        monkeypatch.setattr(module, name, refuse)
    load_policy(run).head.sample  # noqa: B018
    make_trainer(run, run.parent / "walk.zarr", steps=2)


def test_loading_needs_no_diffusers(run):
    code = (
        "import sys; sys.modules['diffusers'] = None\n"
        "from dipole.policy import load_policy\n"
        f"policy = load_policy({str(run)!r})\n"
        "print(policy.predict(policy.fake_observation(1)).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=os.sep
    )
    assert done.stdout == "torch.Size([1, 8, 2])\n", done.stderr


@pytest.mark.parametrize("name", ["config.json", "ema.safetensors", "manifest.json"])
def test_a_missing_file_is_named(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing.*copy the whole folder again"):
        load_policy(checkpoint)


def test_a_truncated_file_is_named(checkpoint):
    path = checkpoint / "ema.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"ema.safetensors: differs.*another checkpoint"):
        load_policy(checkpoint)


def test_a_flipped_bit_is_found(checkpoint):
    path = checkpoint / "ema.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"ema.safetensors: differs.*SHA-256"):
        load_policy(checkpoint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "not a JSON object"),
        ('{"format": "something else"}', "not a dipole checkpoint"),
        ('{"format": "dipole checkpoint", "version": 9}', "version 9.*release of dipole"),
        ('{"format": "dipole checkpoint", "version": 1}', "'policy' is missing"),
    ],
)
def test_a_configuration_that_is_none_is_refused(checkpoint, text, message):
    (checkpoint / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=f"config.json: .*{message}"):
        load_policy(checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["policy"]["denoiser"].update(name="os.system"),
            "unknown denoiser 'os.system'",
        ),
        (lambda c: c["policy"]["denoiser"].update(_target_="os.system"), "no option '_target_'"),
        (lambda c: c["window"].update(horizon=7), "horizon is 7"),
        (lambda c: c["window"].update(length=7), "length"),
        (lambda c: c["policy"]["denoiser"].update(down_dims=[16, 32]), "does not fit config.json"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(checkpoint, change, message):
    config = json.loads((checkpoint / "config.json").read_text())
    change(config)
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_policy(checkpoint)


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere", "no such folder"), (".", "neither a checkpoint .* nor a run")],
)
def test_a_path_without_a_checkpoint_is_refused(tmp_path, path, message):
    with pytest.raises(CheckpointError, match=message):
        load_policy(tmp_path / path)


def test_half_written_checkpoints_are_cleared_away(tmp_path):
    folder = tmp_path / "checkpoints"

    def break_off():
        with atomic_directory(folder / "00000001") as beside:
            (beside / "manifest.json").write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert list(folder.iterdir()) == []


def ended_process():
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_leftovers_of_killed_processes_are_removed_and_those_of_others_stay(tmp_path):
    """Other processes may be writing, and those of other computers cannot be asked."""
    host, parent = platform.node().replace(".", "-"), os.getppid()
    running, killed = f".00000001.{host}.{parent}.partial", f".00000001.{host}.{ended_process()}"
    elsewhere = ".00000001.another-computer.77.partial"
    for name in (running, f"{killed}.partial", elsewhere):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / f"checkpoints/.best.json.{host}.{os.getpid()}.partial").touch()  # a file of ours
    assert checkpoints_of(tmp_path) == []
    remove_leftovers(tmp_path / "checkpoints")
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {running, elsewhere}
    long_ago = time.time() - 25 * 3600
    os.utime(tmp_path / "checkpoints" / elsewhere, (long_ago, long_ago))
    remove_leftovers(tmp_path / "checkpoints")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [running]


def test_a_checkpoint_that_is_there_is_never_overwritten(checkpoint):
    before = (checkpoint / "ema.safetensors").read_bytes()
    save_checkpoint(checkpoint, Checkpoint({}, {"ema": {}}, {}))
    assert (checkpoint / "ema.safetensors").read_bytes() == before
