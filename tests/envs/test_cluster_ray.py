"""Evaluation and recording on a Ray cluster of two nodes of one CPU, which all tests share."""

import contextlib
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from dipole.apps.main import main
from dipole.envs.evaluate import evaluate
from dipole.envs.experts.processes import ordered
from dipole.envs.rollout import RolloutError
from dipole.envs.rollout.cluster.settings import ClusterSettings

sys.path.insert(0, str(Path(__file__).parent))
from experts import AwaitingSeed
from fake_policy import FakePolicy
from tiny_simulator import Awaiting, TinySimulator

pytestmark = pytest.mark.heavy
ray = pytest.importorskip("ray")
STORE = 80 * 2**20  # bytes, the least that Ray takes


@pytest.fixture(scope="module")
def cluster():
    """The nodes' processes find this folder's modules by PYTHONPATH."""
    from ray.cluster_utils import Cluster

    here = str(Path(__file__).parent)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (here, before)))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default: nothing on a busy machine
    node = {"num_cpus": 1, "object_store_memory": STORE}
    started = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    started.worker = started.add_node(**node)
    try:
        ray.init(address=started.address, logging_level="ERROR")
        yield started
    finally:
        ray.shutdown()
        started.shutdown()
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def reference():
    return evaluate(FakePolicy(), TinySimulator, episodes=12, seed=3, n_envs=1).episodes


def test_two_nodes_give_the_results_of_one_process(cluster, reference):
    found = evaluate(FakePolicy(), TinySimulator, episodes=12, seed=3, cluster=ClusterSettings())
    assert found.episodes == reference
    told = {"name": "ray", "nodes": 2, "actors": 2, "policies": 0, "begun_again": 0}
    assert found.metrics["cluster"] == told


def test_a_policy_in_an_actor_gives_the_same_results(cluster, reference):
    settings = ClusterSettings(actors=1, policies=1)
    found = evaluate(FakePolicy(), TinySimulator, episodes=12, seed=3, cluster=settings)
    assert found.episodes == reference


def test_an_environments_exception_names_its_episode(cluster):
    make = partial(TinySimulator, raises_in=5)
    with pytest.raises(RolloutError, match=r"(?s)episode 2 \(seed 5\).*the physics exploded"):
        evaluate(FakePolicy(), make, episodes=4, seed=3, cluster=ClusterSettings())


def test_a_recording_on_two_nodes_is_that_of_one_process_file_by_file(cluster, tmp_path):
    """Failures are left out, so that episodes of both actors are chosen by all of them."""
    words = ["record", "task=fork", "expert=scripted", "episodes=5", "minimum=2"]
    one, two = tmp_path / "one.zarr", tmp_path / "two.zarr"
    assert main([*words, f"output={one}"]) == 0
    begun = [*words, "cluster=ray", "resume=true", f"output={two}"]
    assert main([word.replace("episodes=5", "episodes=2") for word in begun]) == 0
    assert main(begun) == 0
    files = [p.relative_to(one) for p in sorted(one.rglob("*")) if p.is_file()]
    assert files == [p.relative_to(two) for p in sorted(two.rglob("*")) if p.is_file()]
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)


def alive(file):
    """Whether the process that a file is named after has not ended."""
    try:
        return "State:\tZ" not in Path(f"/proc/{file.name}/status").read_text()
    except OSError:
        return False


@contextlib.contextmanager
def losing_the_node(cluster, folder, go_on):
    """Meanwhile a node is lost, once a process on each of two has left a file; when one of them has
    ended, `go_on` is written, for which their work waits. Then the node is replaced."""

    def until(condition):
        deadline = time.monotonic() + 100
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.05)

    def lose():
        until(lambda: len(list(folder.iterdir())) == 2)
        cluster.remove_node(cluster.worker, allow_graceful=False)
        until(lambda: not all(map(alive, folder.iterdir())))
        go_on.touch()

    thread = threading.Thread(target=lose)
    thread.start()
    yield
    thread.join()
    cluster.worker = cluster.add_node(num_cpus=1, object_store_memory=STORE)


@pytest.fixture
def limited():
    """An error in place of a test that waits for ever, which it did once on a machine at a load of
    ten."""

    def give_up(*_):
        raise TimeoutError("no end after 240 s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_the_episodes_of_a_node_that_dies_are_run_again(cluster, reference, tmp_path, limited):
    go_on, folder = tmp_path / "go_on", tmp_path / "waiting"
    folder.mkdir()
    make = partial(Awaiting, first=os.getpid(), go_on=go_on, folder=folder)
    with losing_the_node(cluster, folder, go_on):
        found = evaluate(
            FakePolicy(), make, episodes=12, seed=3, n_envs=12, cluster=ClusterSettings(actors=2)
        )
    assert found.episodes == reference
    assert found.metrics["cluster"]["begun_again"] > 0


def test_the_seeds_of_a_node_that_dies_are_begun_again(cluster, tmp_path, limited):
    go_on, folder = tmp_path / "go_on", tmp_path / "waiting"
    folder.mkdir()
    make, settings = partial(AwaitingSeed, folder, go_on), ClusterSettings(actors=2)
    with (
        losing_the_node(cluster, folder, go_on),
        pytest.warns(match="begun again"),
        ordered(make, range(30), 0, cluster=settings) as made,
    ):
        assert list(made) == list(range(30))
