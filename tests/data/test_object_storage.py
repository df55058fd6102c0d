"""Datasets behind a network: the same batches as from the disk, whatever the network does."""

import functools
import itertools
import json
import pickle

import numpy as np
import pytest
import torch

from dipole.benchmarks.object_server import Faults, FaultyProxy, FolderServer
from dipole.data import DataError, EpisodeStore, Windows, WindowSpec, make_loader
from dipole.data.core.errors import StorageError
from dipole.data.inspection.validate import validate
from dipole.data.store.bundle import dataset_path
from dipole.data.store.objects import blocks
from dipole.data.store.objects.cache import BlockCache
from dipole.data.store.objects.retrying import Retrying
from dipole.data.store.objects.url import ObjectUrl
from dipole.data.store.publish import zip_folder

pytest.importorskip("obstore", reason="needs obstore: pip install 'dipole[object-storage]'")
LENGTHS = [20, 13, 15]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    """A cache of the test's own, small blocks, and pauses that do not last."""
    monkeypatch.setenv("DIPOLE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2048)
    monkeypatch.setattr(
        "dipole.data.store.objects.client.Retrying",
        functools.partial(Retrying, first=0.001, longest=0.01),
    )
    return tmp_path / "cache" / "blocks"


@pytest.fixture
def local(write):
    """A dataset on the disk, with the listing that web servers need."""
    path = write(LENGTHS, "robot.zarr", images="jpeg")
    files = [file for file in path.rglob("*") if file.is_file()]
    listing = {str(file.relative_to(path)): file.stat().st_size for file in files}
    (path / "files.json").write_text(json.dumps({"files": listing}))
    return path


@pytest.fixture
def served(local):
    """Its address behind a proxy, and the proxy."""
    with FolderServer(local.parent) as server, FaultyProxy(server.port, Faults()) as proxy:
        yield f"{proxy.url}/{local.name}", proxy


def batches(path, count=12, opened=lambda: None, **options):
    windows = Windows(EpisodeStore.open(path), WindowSpec(2, 8, 4))
    opened()
    with make_loader(
        windows, batch_size=8, seed=1, memory_limit_bytes=0, log=lambda _: None, **options
    ) as loader:
        return list(itertools.islice(loader.batches(), count))


def flat(batch):
    observation = {f"observation.{name}": value for name, value in batch["observation"].items()}
    return {**observation, "action": batch["action"], "action_is_pad": batch["action_is_pad"]}


def assert_same(one, other):
    for a, b in zip(map(flat, one), map(flat, other), strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(a[key], b[key]), key


def test_a_url_is_told_from_a_path():
    url = dataset_path("s3://bucket/some/robot.zarr/")
    assert url == ObjectUrl("s3", "bucket", "some/robot.zarr")
    assert (str(url), url.name, url.suffix) == (
        "s3://bucket/some/robot.zarr",
        "robot.zarr",
        ".zarr",
    )
    assert not isinstance(dataset_path("s3/bucket"), ObjectUrl)


@pytest.mark.parametrize("text", ["s3://bucket", "s3:///robot.zarr", "s3://b/a/../c", "az://c/a?b"])
def test_a_place_that_is_none_is_refused(text):
    with pytest.raises(DataError, match=r"no place in object storage|the name holds"):
        dataset_path(text)


def test_everything_of_a_dataset_is_as_on_the_disk(local, served):
    url, _ = served
    near, far = EpisodeStore.open(local), EpisodeStore.open(url)
    assert far.keys() == near.keys()
    assert far.fingerprint() == near.fingerprint()
    for key in list(near.arrays):
        assert np.array_equal(far[key][:], near[key][:])
    assert [f.message for f in validate(url).problems] == []
    assert pickle.loads(pickle.dumps(far)).fingerprint() == near.fingerprint()


def test_a_zip_is_read_in_ranges(local, served, tmp_path):
    url, _ = served
    (local / "files.json").unlink()
    zip_folder(local, tmp_path / "robot.zarr.zip")
    assert_same(batches(f"{url}.zip"), batches(local))


def test_batches_are_those_of_the_disk_whatever_the_network_does(local, served):
    url, proxy = served
    kinds = {"error": 0.1, "throttled": 0.1, "limited": 0.1, "reset": 0.1, "cut": 0.1}
    proxy.faults = Faults(**kinds)

    def damage_too():  # no checksum stands behind metadata; TLS is what guards them
        proxy.faults = Faults(**kinds, damaged=0.05)

    assert_same(batches(url, opened=damage_too), batches(local))
    assert sum(proxy.counts[kind] for kind in kinds) > 3


def test_what_was_read_once_is_not_fetched_again(local, served):
    url, proxy = served
    first = batches(url)
    asked = proxy.counts["GET"]
    assert asked > 5
    assert_same(batches(url), first)
    assert proxy.counts["GET"] == asked + 1  # the listing


def test_many_ranges_are_few_requests(served):
    url, proxy = served
    with EpisodeStore.open(url) as store:
        before = proxy.counts["GET"]
        store["camera"].read(0, store.n_frames)
        stored = sum(info.size for info in store.files._objects.values())
        assert proxy.counts["GET"] - before <= stored / 2048 / 2


def test_the_cache_stays_within_its_size(cache_folder):
    cache = BlockCache(cache_folder, 20_000)
    for block in range(100):
        cache.put(cache.name("s3://b/k", "tag", 10**6, block), bytes(1000))
    assert 10_000 < cache.used() <= 20_000
    last = cache.name("s3://b/k", "tag", 10**6, 99)
    assert cache.read(last, 1000, 10, 20) == bytes(10)


def test_a_damaged_block_is_fetched_again(cache_folder):
    cache = BlockCache(cache_folder, 20_000)
    name = cache.name("s3://b/k", "tag", 4, 0)
    cache.put(name, b"abcd")
    (cache_folder / name).write_bytes(b"abcX" + (cache_folder / name).read_bytes()[4:])
    assert BlockCache(cache_folder, 20_000).read(name, 4, 0, 4) is None
    assert not (cache_folder / name).exists()


def test_a_cache_that_is_too_small_costs_time_and_nothing_else(local, served, monkeypatch):
    url, _ = served
    monkeypatch.setattr("dipole.data.store.objects.cache.SMALLEST", 1)
    monkeypatch.setenv("DIPOLE_CACHE_SIZE", "4KiB")
    assert_same(batches(url), batches(local))


def test_the_reason_of_retries_is_told_in_the_end(served):
    url, proxy = served
    proxy.faults = Faults(throttled=1)
    with pytest.raises(StorageError, match=r"6 times in \d+ s, last: .*503 .*See to the network"):
        EpisodeStore.open(url)


def test_a_dataset_that_is_not_there_is_said(served):
    url, _ = served
    with pytest.raises(DataError, match="is not there, which"):
        EpisodeStore.open(url.replace("robot", "other"))
    with pytest.raises(DataError, match="there is no dataset here"):
        EpisodeStore.open(url.replace("robot.zarr", "other.zarr.zip"))
