"""Runs copied to S3, moto's imitation of it, through errors, kills and other machines."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from copied_runs import configuration
from memory_store import names
from ranks_fixture import silent
from safetensors.torch import load_file
from training_fixture import write_dataset

from dipole.benchmarks.object_server import Faults
from dipole.data.store.objects.url import ObjectUrl
from dipole.policy.checkpoint import checkpoints_of
from dipole.policy.training.output.logs import read_log
from dipole.policy.training.run import start_run
from dipole.policy.training.storage.fetched_run import fetch_run

pytest.importorskip("obstore", reason="needs obstore: pip install 'dipole[object-storage]'")
pytest.importorskip("moto.server", reason="needs moto: pip install 'moto[server]'")
pytestmark = pytest.mark.heavy
SCRIPT = Path(__file__).parent / "copied_runs.py"


@pytest.fixture
def url(request):
    """A name of the test's own."""
    return f"s3://robots/{request.node.name}"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "walk.zarr")


def script(kind, *words):
    done = subprocess.run(
        [sys.executable, SCRIPT, kind, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def assert_same_bits(run, other):
    ours, theirs = (checkpoints_of(each)[-1] for each in (run, other))
    assert ours.name == theirs.name
    for file in ours.glob("*.safetensors"):
        mine, yours = load_file(file), load_file(theirs / file.name)
        assert [name for name in mine if not torch.equal(mine[name], yours[name])] == []
    losses = [
        [(line["step"], line["train/loss"]) for line in read_log(each / "log.jsonl")]
        for each in (run, other)
    ]
    assert losses[0] == losses[1]


def test_the_copy_is_the_run_whatever_the_network_does(s3, url, dataset, tmp_path):
    s3.faults = Faults(error=0.05, throttled=0.05, limited=0.05, reset=0.05)
    config = configuration(dataset, steps=8, keep_checkpoints=2, copy_to=url)
    result = start_run(config, tmp_path / "run", say=silent)
    assert result.not_copied is None
    s3.faults = Faults()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    here = {path.relative_to(tmp_path / "run").as_posix() for path in files} - {"lock"}
    assert here == set(names(url))
    fetched = Path(fetch_run(ObjectUrl.parse(url), tmp_path / "fetched"))
    assert_same_bits(tmp_path / "run", fetched)


def test_a_run_that_is_killed_while_it_sends_goes_on_elsewhere_bit_for_bit(
    s3, url, dataset, tmp_path
):
    calm = configuration(dataset, steps=24)
    start_run(calm, tmp_path / "calm", say=silent)
    s3.faults = Faults(latency=0.02, error=0.02, reset=0.02)
    lines = script("kills", dataset, tmp_path, url)
    assert lines[-1] == "00000024 None"
    assert_same_bits(tmp_path / "calm", tmp_path / "machine5")
    s3.faults = Faults()
    there = {name.split("/")[1] for name in names(url) if name.startswith("checkpoints/")}
    assert there == {"00000022", "00000024"}  # and nothing of what was cut short


def test_another_machine_of_the_same_launcher_goes_on(s3, url, dataset, tmp_path):
    first, second = script("ranks", dataset, tmp_path, url)
    assert first == "0 (0, 5, None) | 0 (0, 5, None)"
    assert second == "0 (5, 8, None) | 0 (5, 8, None)"
    assert [path.name for path in checkpoints_of(tmp_path / "second")] == ["00000006", "00000008"]
