"""A function of episode seeds in actors of a Ray cluster, as `experts/processes.py` has it in
processes of this machine.

Where an actor dies, with its machine or alone, the seeds that it had are begun again elsewhere.
"""

import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from dipole.data.core.processors import processors
from dipole.envs.experts.processes import Make, SeedFunction
from dipole.envs.rollout.cluster.actors import Actor, ActorGroup
from dipole.envs.rollout.cluster.session import connected
from dipole.envs.rollout.cluster.settings import ClusterSettings


@dataclass(frozen=True)
class SeedWork:
    """One seed, or a group of them, that an actor makes something of. name: Of what a seed is."""

    name: str
    seed: Any

    def __str__(self) -> str:
        return f"{self.name} {self.seed}"


class SeedProcess:
    """What an actor does: see SeedFunction."""

    def __init__(self, make: Make) -> None:
        self._function = SeedFunction(make)

    def ping(self) -> None:
        """It is there."""

    def perform(self, work: SeedWork) -> Any:
        """The result, or the error that stopped it."""
        return self._function(work.seed)

    def close(self) -> None:
        self._function.close()


class RayPool:
    """Actors that make results of seeds, as `Pool` says.

    ray: The module, connected. make: Called once in each actor. actors: How many. patience: Seconds
    to wait for a first one. name: Of what a seed is, for messages. A seed in which three actors
    died has a RolloutError for its result.
    """

    def __init__(self, ray: Any, make: Make, actors: int, patience: float, name: str) -> None:
        remote, stored = ray.remote(SeedProcess), ray.put(make)
        self._group = ActorGroup(
            ray,
            lambda options: remote.options(**options).remote(stored),
            actors,
            {"num_cpus": 1},
            "simulator",
        )
        self._patience, self._name, self._count = patience, name, actors
        self._again: list[SeedWork] = []  # of actors that died, for which no other is free
        self.begun_again = 0

    @property
    def size(self) -> int:
        return self._count

    @property
    def room(self) -> int:
        return len(self._free())

    def send(self, seed: Any) -> None:
        self._group.send(self._free()[0], SeedWork(self._name, seed))

    def collect(self) -> list[tuple[Any, Any]]:
        results = []
        for event in self._group.wait(None if self._group.ready else self._patience):
            if event.error is not None:
                lost = list(event.actor.sent)
                if event.given_up is not None:
                    results.append((lost.pop(0).seed, event.given_up))
                self._again += lost
                self.begun_again += len(lost)
            elif event.work is not None:
                results.append((event.work.seed, event.answer))
        for actor in self._free():
            if self._again:
                self._group.send(actor, self._again.pop(0))
        return results

    def close(self) -> None:
        self._group.close()

    def _free(self) -> list[Actor]:
        return [actor for actor in self._group.ready if not actor.sent]


@contextmanager
def pool_on(
    settings: ClusterSettings, make: Make, name: str, most: int | None
) -> Iterator[RayPool]:
    """Actors of the cluster. most: More of them would have nothing to do; None: they would not."""
    with connected(settings, settings.actors or processors()) as ray:
        actors = settings.actors or max(1, int(ray.cluster_resources().get("CPU", 1)))
        actors = actors if most is None else min(actors, most)
        with closing(RayPool(ray, make, actors, settings.patience, name)) as pool:
            try:
                yield pool
            finally:
                if pool.begun_again:
                    _warn(pool.begun_again, name)


def _warn(times: int, name: str) -> None:
    """Endings of actors change nothing in the results, and cost time."""
    warnings.warn(
        f"actors of the cluster ended: {name} N was begun again {times} times", stacklevel=3
    )
