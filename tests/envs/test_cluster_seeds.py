"""A function of seeds on a cluster that is acted, as recording uses it."""

import sys
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import pytest

from dipole.envs.experts import cluster_seeds as seeds
from dipole.envs.experts.cluster_seeds import RayPool
from dipole.envs.experts.demonstrate import DemonstrationSpec, demonstrations
from dipole.envs.experts.processes import in_order
from dipole.envs.rollout import RolloutError
from dipole.envs.rollout.cluster.settings import ClusterSettings

sys.path.insert(0, str(Path(__file__).parent))
from acted_ray import ActedRay
from experts import FEATURES, SPEC, walking


def doubled(seed):
    if seed == 27:
        raise RolloutError("27 is no seed")
    return 2 * seed


def pool_of(ray, actors=2):
    return RayPool(ray, lambda: doubled, actors, 1.0, "the episode of seed")


@pytest.mark.parametrize("actors", [1, 3, 20])
def test_results_come_in_the_order_of_the_seeds_for_any_number_of_actors(actors):
    assert list(in_order(pool_of(ActedRay(), actors), iter(range(9)))) == list(range(0, 18, 2))


def test_an_error_comes_when_its_seed_s_turn_does():
    made = in_order(pool_of(ActedRay()), iter(range(24, 99)))
    assert [next(made) for _ in range(3)] == [48, 50, 52]
    with pytest.raises(RolloutError, match="27 is no seed"):
        next(made)


def test_the_seeds_of_an_actor_that_dies_are_begun_again():
    pool = pool_of(ActedRay(lambda work, actor: work.seed == 3 and actor < 2))
    assert list(in_order(pool, iter(range(9)))) == list(range(0, 18, 2))
    assert pool.begun_again == 2  # both actors died in it, and then a third made it


def test_a_seed_that_ends_its_process_is_an_error_when_its_turn_comes():
    made = in_order(pool_of(ActedRay(lambda work, _: work.seed == 3)), iter(range(9)))
    assert [next(made) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(RolloutError, match="the episode of seed 3: 3 simulator actors ended in it"):
        next(made)


@pytest.mark.parametrize(("wanted", "actors"), [(5, 3), (2, 2)])
def test_demonstrations_on_a_cluster_are_those_of_one_process(monkeypatch, wanted, actors):
    """It has three processors, and no more actors than there are episodes wanted."""
    ray, spec = ActedRay(), DemonstrationSpec(SPEC, features=FEATURES)
    monkeypatch.setattr(seeds, "connected", lambda *_: nullcontext(ray))
    with walking():
        here = list(islice(demonstrations(spec, 3), wanted))
        made = demonstrations(spec, 3, cluster=ClusterSettings(), wanted=wanted)
        there = list(islice(made, wanted))
    assert [each.seed for each in there] == [each.seed for each in here]
    for one, other in zip(here, there, strict=True):
        assert one.numbers == other.numbers
        assert all((one.frames[key] == other.frames[key]).all() for key in one.frames)
    assert ray.made == actors
