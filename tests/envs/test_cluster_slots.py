"""Slots on a cluster, with a cluster that is acted: actors answer, die and come back on demand."""

import socket
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from dipole.data.core.errors import ConfigError
from dipole.envs.evaluate import evaluate
from dipole.envs.evaluation.episodes import EpisodeRun
from dipole.envs.interface import Interface
from dipole.envs.rollout import Command, RolloutError
from dipole.envs.rollout.cluster import session
from dipole.envs.rollout.cluster.settings import ClusterSettings
from dipole.envs.rollout.cluster.slots import RaySlots
from dipole.policy.execution.executor import Executor

sys.path.insert(0, str(Path(__file__).parent))
from acted_ray import ActedRay
from fake_policy import FakePolicy
from tiny_simulator import TinySimulator


def run(slots, episodes=12, n_slots=5):
    run = EpisodeRun(Executor(FakePolicy(), n_slots), slots)
    return run.finish(range(3, 3 + episodes), n_slots), run


def slots_of(ray, actors=2, patience=1.0, **options):
    make = partial(TinySimulator, **options)
    return RaySlots(ray, actors, 6, patience, make, 2, Interface(), None)


@pytest.fixture(scope="module")
def reference():
    return evaluate(FakePolicy(), TinySimulator, episodes=12, seed=3, n_envs=1).episodes


def test_episodes_are_those_of_one_process(reference):
    assert run(slots_of(ActedRay()))[0] == reference


def test_an_actor_that_dies_has_its_episodes_begun_again(reference):
    died = []

    def dies(command, actor):
        if command.actions is not None and actor < 2 and len(died) < 2 and command.episode > 3:
            died.append(actor)
            return True
        return False

    slots = slots_of(ActedRay(dies))
    results, made = run(slots)
    assert results == reference
    assert slots.deaths == 2
    assert made.begun_again >= 2


def test_an_episode_that_ends_its_process_is_not_tried_for_ever():
    slots = slots_of(ActedRay(lambda command, _: command.seed == 7 and command.actions is not None))
    with pytest.raises(RolloutError, match=r"episode 4 \(seed 7\): 3 simulator actors ended in it"):
        run(slots)


def test_an_environments_exception_is_told_with_its_episode_and_not_repeated():
    ray = ActedRay()
    with pytest.raises(RolloutError, match=r"(?s)episode 2 \(seed 5\).*the physics exploded"):
        run(slots_of(ray, raises_in=5))
    assert ray.made == 2


def test_a_cluster_without_room_is_an_error_after_a_while():
    slots = slots_of(ActedRay(full=True), patience=0.01)
    slots.send(Command(0, 0, 0))
    with pytest.raises(RolloutError, match="no simulator actor of the cluster is there"):
        slots.collect()


def test_a_slot_goes_to_the_actor_with_the_fewest_episodes():
    slots = slots_of(ActedRay(), actors=3)
    for slot in range(6):
        slots.send(Command(slot, slot, slot))
        if not slot:
            slots.collect()
    homes = list(slots._home.values())
    assert sorted(map(homes.count, set(homes))) == [2, 2, 2]


def test_ray_that_is_missing_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'dipole\[cluster\]'"):
        session.ray_module()


def test_a_cluster_that_ended_without_a_word_is_not_waited_for(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert not session._has_ended()  # none was noted
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        (tmp_path / "ray/ray_current_cluster").write_text(address)
        assert not session._has_ended()
    assert session._has_ended()
    asked = []
    ray = SimpleNamespace(init=lambda **options: asked.append(options["address"]))
    session._connect(ray, None, 2)
    assert asked == ["local"]


@pytest.mark.parametrize(
    ("values", "said"), [({"name": "dask"}, "known: ray"), ({"actors": 0}, "at least 1")]
)
def test_settings_that_cannot_work_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        ClusterSettings(**values)
