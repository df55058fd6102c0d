"""Checkpoints in object storage as folders of this machine: as listed, or an error."""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from memory_store import memory_store

from dipole.benchmarks.object_server import Faults, FaultyProxy, FolderServer
from dipole.data.core.errors import CheckpointError
from dipole.data.store.objects.client import ObjectClient
from dipole.data.store.objects.url import ObjectUrl
from dipole.policy.checkpoint import (
    Checkpoint,
    find_checkpoint,
    located,
    origin,
    read_tensors,
    weights_source,
)
from dipole.policy.checkpoint import remote as remote_module
from dipole.policy.checkpoint.checkpoint_folder import save_checkpoint

pytest.importorskip("obstore", reason="needs obstore: pip install 'dipole[object-storage]'")
CONFIG = {"policy": {}, "features": {}, "window": {}}
RUN = ObjectUrl.parse("s3://robots/runs/first")


@pytest.fixture
def client(tmp_path):
    with memory_store(tmp_path):
        yield ObjectClient(RUN)


@pytest.fixture
def folder(tmp_path):
    """A run with two checkpoints."""
    for step in (10, 20):
        tensors = {"ema": {"numbers": torch.full((30,), float(step))}}
        folder = tmp_path / "run" / "checkpoints" / f"{step:08d}"
        save_checkpoint(folder, Checkpoint(CONFIG, tensors, {"step": step}))
    (tmp_path / "run" / "best.json").write_text('{"checkpoint": "00000010", "score": 1}')
    return tmp_path / "run"


def upload(client, folder, place=RUN):
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        client.put((place / file.relative_to(folder).as_posix()).key, file)


def change(client, name, content):
    """Of the newest checkpoint."""
    client.put((RUN / "checkpoints" / "00000020" / name).key, content)


def changed_manifest(folder, change):
    manifest = json.loads((folder / "checkpoints" / "00000020" / "manifest.json").read_text())
    change(manifest["files"])
    return json.dumps(manifest).encode()


@pytest.mark.parametrize(
    ("place", "step"), [("", 20), ("/best", 10), ("/checkpoints/00000010", 10), ("/", 20)]
)
def test_a_place_means_what_it_means_on_the_disk(client, folder, place, step):
    upload(client, folder)
    found = find_checkpoint(f"{RUN}{place}")
    assert found.name == find_checkpoint(f"{folder}{place}").name == f"{step:08d}"
    assert read_tensors(found, "ema")["numbers"].unique().tolist() == [step]


def test_a_checkpoint_alone_may_lie_anywhere(client, folder):
    upload(client, folder / "checkpoints" / "00000010", RUN / "mine")
    assert read_tensors(find_checkpoint(f"{RUN}/mine"), "ema")["numbers"][0] == 10


def test_its_place_is_what_is_recorded_of_it(client, folder, tmp_path):
    upload(client, folder)
    found = find_checkpoint(f"{RUN}")
    assert weights_source(found, "ema")["checkpoint"] == f"{RUN}/checkpoints/00000020"
    assert origin(tmp_path / "a") == str(tmp_path / "a")


def test_a_path_is_left_as_it_is():
    assert located("~/run") == Path("~/run").expanduser()
    assert located(Path("run")) == Path("run")


def test_where_there_is_none_it_is_said(client):
    with pytest.raises(
        CheckpointError, match=r"neither a checkpoint .* nor a run with a whole one"
    ):
        find_checkpoint(f"{RUN}")
    with pytest.raises(CheckpointError, match=r"has no best.json"):
        find_checkpoint(f"{RUN}/best")


def test_a_checkpoint_without_its_manifest_is_never_taken(client, folder):
    upload(client, folder)
    client.delete([(RUN / "checkpoints" / "00000020" / "manifest.json").key])
    assert find_checkpoint(f"{RUN}").name == "00000010"
    with pytest.raises(CheckpointError, match="neither a checkpoint"):
        find_checkpoint(f"{RUN}/checkpoints/00000020")


def test_what_is_not_as_listed_is_refused(client, folder):
    upload(client, folder)
    weights = (folder / "checkpoints" / "00000020" / "ema.safetensors").read_bytes()
    change(client, "ema.safetensors", weights[:-1])
    with pytest.raises(CheckpointError, match=r"ema.safetensors: has [\d,]+ bytes, and the manif"):
        find_checkpoint(f"{RUN}")
    change(client, "ema.safetensors", weights[:-1] + b"\1")
    with pytest.raises(CheckpointError, match=r"differs from what the manifest says \(SHA-256\)"):
        find_checkpoint(f"{RUN}")
    client.delete([(RUN / "checkpoints" / "00000020" / "ema.safetensors").key])
    with pytest.raises(CheckpointError, match=r"ema.safetensors: is missing"):
        find_checkpoint(f"{RUN}")


@pytest.mark.parametrize("name", ["../../policy.safetensors", "model.pt", "a/b.json", ".x.json"])
def test_nothing_but_weights_and_json_is_fetched(client, folder, name):
    upload(client, folder)
    listed = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    manifest = changed_manifest(folder, lambda files: files.update({name: listed}))
    change(client, "manifest.json", manifest)
    with pytest.raises(CheckpointError, match="is no file of a checkpoint"):
        find_checkpoint(f"{RUN}")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": {"a.json": {"bytes": -1}}}', b"\xff"])
def test_a_manifest_that_is_none_is_refused(client, folder, content):
    upload(client, folder)
    change(client, "manifest.json", content)
    with pytest.raises(CheckpointError, match="not a checkpoint's manifest"):
        find_checkpoint(f"{RUN}")


def test_what_would_not_fit_is_refused_before_it_is_fetched(client, folder, monkeypatch):
    upload(client, folder)
    huge = {"bytes": 2**60, "sha256": 64 * "0"}
    manifest = changed_manifest(folder, lambda files: files.update({"model.safetensors": huge}))
    change(client, "manifest.json", manifest)
    with pytest.raises(CheckpointError, match=r"is larger than the cache .* DIPOLE_CACHE_SIZE"):
        find_checkpoint(f"{RUN}")
    monkeypatch.setenv("DIPOLE_CACHE_SIZE", f"{2**61}")
    with pytest.raises(CheckpointError, match="of room"):
        find_checkpoint(f"{RUN}")


def test_a_checkpoint_that_is_removed_while_it_is_read_is_looked_for_anew(
    client, folder, monkeypatch
):
    upload(client, folder)
    fetch, fetched = remote_module._fetch, []

    def prune(client, url, listed, target):
        if not fetched:
            newest = [(RUN / "checkpoints" / "00000020" / n).key for n in ("manifest.json",)]
            client.delete([*newest, (RUN / "checkpoints" / "00000020" / "config.json").key])
        fetched.append(url)
        fetch(client, url, listed, target)

    monkeypatch.setattr(remote_module, "_fetch", prune)
    assert find_checkpoint(f"{RUN}").name == "00000010"


def test_the_cache_forgets_what_was_not_used_for_the_longest_time(
    client, folder, tmp_path, monkeypatch
):
    upload(client, folder)
    first = find_checkpoint(f"{RUN}/best")
    monkeypatch.setattr("dipole.data.store.objects.cache.SMALLEST", 1)
    monkeypatch.setenv("DIPOLE_CACHE_SIZE", "1000")
    second = find_checkpoint(f"{RUN}")
    assert first.exists()  # for an hour
    os.utime(first.parent, (0, time.time() - 4000))
    (second / "fetched.json").unlink()  # as if the process had been killed
    assert find_checkpoint(f"{RUN}") == second
    assert not first.exists()


def test_a_cached_file_of_another_size_is_fetched_again(client, folder):
    upload(client, folder)
    found = find_checkpoint(f"{RUN}")
    (found / "ema.safetensors").write_bytes(b"")
    assert len(read_tensors(find_checkpoint(f"{RUN}"), "ema")["numbers"]) == 30


def test_one_behind_a_web_server_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DIPOLE_CACHE_DIR", str(tmp_path / "cache"))
    with FolderServer(tmp_path) as server, FaultyProxy(server.port, Faults()) as proxy:
        url = f"{proxy.url}/run"
        assert find_checkpoint(f"{url}/best").name == "00000010"
        assert find_checkpoint(f"{url}/checkpoints/00000020").name == "00000020"
        with pytest.raises(CheckpointError, match="a web server lists no files: give one check"):
            find_checkpoint(url)
