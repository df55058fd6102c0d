"""Writing to S3 and training from it, against moto's imitation: whole or not there at all."""

import itertools

import numpy as np
import pytest
import torch

from dipole.benchmarks.object_server import Faults
from dipole.data import DataError, EpisodeStore, EpisodeWriter, Windows, WindowSpec, make_loader
from dipole.data.convert import ConversionRequest, run
from dipole.data.core.errors import StorageError
from dipole.data.store.objects.client import ObjectClient
from dipole.data.store.objects.url import ObjectUrl

pytest.importorskip("obstore", reason="needs obstore: pip install 'dipole[object-storage]'")
pytest.importorskip("moto.server", reason="needs moto: pip install 'moto[server]'")
pytestmark = pytest.mark.heavy


@pytest.fixture
def url(request):
    """A name of the test's own."""
    return f"s3://robots/{request.node.name}/robot.zarr"


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    """So that a small dataset has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dipole.data.store.zarr.encoding.SHARD_BYTES", 2**20)
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, small_shards):
    """Noise: 6 episodes of 96 × 96 pictures in 7 shards."""
    path = tmp_path_factory.mktemp("near") / "robot.zarr"
    random = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10) as writer:
        for n in range(6):
            length = 40 + n
            camera = np.repeat(random.integers(0, 255, (length, 24, 24, 3), np.uint8), 4, axis=1)
            writer.add_episode(
                {
                    "state": random.random((length, 3), np.float32),
                    "action": random.random((length, 2), np.float32),
                    "camera": np.repeat(camera, 4, axis=2),
                }
            )
    return path


def batches(path, count, **options):
    windows = Windows(EpisodeStore.open(path), WindowSpec(2, 8, 4))
    with make_loader(
        windows, batch_size=32, seed=1, memory_limit_bytes=0, log=lambda _: None, **options
    ) as loader:
        yield from itertools.islice(loader.batches(), count)


@pytest.mark.parametrize("options", [{}, {"shuffle_blocks": 2}, {"rank": 1, "ranks": 2}])
def test_one_percent_of_errors_and_throttling_change_no_batch(s3, url, pictures, options):
    run(ConversionRequest(pictures, url))
    s3.faults = Faults(error=0.01, throttled=0.01, limited=0.01, reset=0.01, cut=0.01)
    pairs = zip(batches(url, 40, **options), batches(pictures, 40, **options), strict=True)
    for far, near in pairs:
        assert torch.equal(far["action"], near["action"])
        for name, value in near["observation"].items():
            assert torch.equal(far["observation"][name], value)


def test_worker_processes_read_the_same(s3, url, pictures):
    run(ConversionRequest(pictures, url))
    for far, near in zip(batches(url, 6, workers=2), batches(pictures, 6), strict=True):
        assert torch.equal(far["observation"]["camera"], near["observation"]["camera"])


@pytest.mark.parametrize("ending", ["", ".zip"])
def test_a_conversion_appears_whole_and_is_never_overwritten(s3, url, pictures, ending):
    s3.faults = Faults(error=0.03, throttled=0.03, reset=0.03)
    report = run(ConversionRequest(pictures, url + ending))
    assert (str(report.path), report.n_episodes) == (url + ending, 6)
    far, near = EpisodeStore.open(url + ending), EpisodeStore.open(pictures)
    assert far.fingerprint() == near.fingerprint()
    with pytest.raises(DataError, match="exists already"):
        run(ConversionRequest(pictures, url + ending))


def test_half_an_upload_is_no_dataset_and_is_gone_on_with(s3, url, pictures, monkeypatch):
    sent = []
    put = ObjectClient.put

    def fail_late(self, key, content, new=False):
        if len(sent) > 5:
            raise StorageError("the cable was pulled out")
        sent.append(key)
        put(self, key, content, new)

    with monkeypatch.context() as broken:
        broken.setattr(ObjectClient, "put", fail_late)
        with pytest.raises(StorageError, match="cable"):
            run(ConversionRequest(pictures, url))
    with pytest.raises(DataError, match="not an episode store"):
        EpisodeStore.open(url)
    before = s3.counts["PUT"]
    run(ConversionRequest(pictures, url))
    place = ObjectUrl.parse(url)
    objects = ObjectClient(place).objects(place.key)
    assert "unfinished" not in objects
    assert (
        s3.counts["PUT"] - before <= len(objects) - 3
    )  # those that had arrived were not sent again
    assert EpisodeStore.open(url).fingerprint() == EpisodeStore.open(pictures).fingerprint()


def test_an_upload_of_another_machine_is_left_alone(s3, url, pictures):
    place = ObjectUrl.parse(url)
    ObjectClient(place).put(f"{place.key}/unfinished", b"another machine")
    with pytest.raises(DataError, match=r"something unfinished lies there \(another machine\)"):
        run(ConversionRequest(pictures, url))


def test_what_is_no_dataset_is_not_written_into(s3, url, pictures):
    place = ObjectUrl.parse(url)
    ObjectClient(place).put(f"{place.key}/thesis.pdf", b"years of work")
    with pytest.raises(DataError, match=r"holds 'thesis.pdf'"):
        run(ConversionRequest(pictures, url))


def test_an_object_that_changes_while_it_is_read_is_an_error(s3, url, pictures):
    run(ConversionRequest(pictures, url))
    place, store = ObjectUrl.parse(url), EpisodeStore.open(url)
    name = next(n for n in store.files._objects if n.startswith("data/camera/c/1"))
    ObjectClient(place).put(f"{place.key}/{name}", bytes(store.files.size(name)))
    with pytest.raises(StorageError, match="changed meanwhile"):
        store["camera"].read(0, store.n_frames)


def test_a_dataset_in_s3_is_converted_like_any_other(s3, url, pictures, tmp_path):
    run(ConversionRequest(pictures, url))
    run(ConversionRequest(url, tmp_path / "back.zarr"))
    assert EpisodeStore.open(tmp_path / "back.zarr").n_frames == EpisodeStore.open(url).n_frames


def test_errors_say_what_to_do(s3, url, monkeypatch):
    with pytest.raises(DataError, match="there is no dataset here; see to the name"):
        EpisodeStore.open(url)
    with pytest.raises(
        StorageError, match=r"There is no s3://nowhere: create it.*AWS_ENDPOINT_URL"
    ):
        EpisodeStore.open("s3://nowhere/robot.zarr")
    s3.faults = Faults(refused=1)
    with pytest.raises(StorageError, match=r"credentials were refused: see to AWS_ACCESS_KEY_ID"):
        EpisodeStore.open(url)
    assert s3.counts["refused"] == 1  # no other attempt makes a key valid
    with pytest.raises(DataError, match="a web server cannot be written to"):
        run(ConversionRequest("bundled:pusht", "https://example.org/robot.zarr"))
