"""Demonstrations of an expert, one per seed, in worker processes or without."""

import functools
import multiprocessing
from collections.abc import Iterator
from itertools import count
from typing import Any

import gymnasium

from dipole.data.recording.record import Demonstration, Demonstrator, record_episode
from dipole.envs.experts import EXPERTS
from dipole.envs.experts.action_noise import Disturbance, DisturbanceSpec
from dipole.envs.experts.intervention import PolicyActs, TakeoverSpec, observed_by
from dipole.envs.registry import make_env


def demonstrate(
    expert: str,
    seed: int,
    disturbance: DisturbanceSpec | None = None,
    takeover: TakeoverSpec | None = None,
) -> Demonstration:
    """The expert's episode from a seed's start, or from where a policy got to from there.

    A function of its arguments alone, on one machine. Has no frames where the policy ended it.
    """
    environment, demonstrator = _made(expert, takeover)
    disturb = None if disturbance is None else Disturbance(seed, disturbance)
    prelude = None if takeover is None else PolicyActs(takeover, seed)
    keys = EXPERTS[expert].observation
    return record_episode(environment, demonstrator, seed, disturb, prelude, keys)


def demonstrations(
    expert: str,
    first_seed: int,
    disturbance: DisturbanceSpec | None = None,
    workers: int = 0,
    takeover: TakeoverSpec | None = None,
) -> Iterator[Demonstration]:
    """Endlessly, in the order of the seeds, however many processes make them."""
    EXPERTS[expert]  # an unknown name is answered here, not in a worker
    make = functools.partial(demonstrate, expert, disturbance=disturbance, takeover=takeover)
    if workers < 1:
        yield from map(make, count(first_seed))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        # imap runs through its input at once, and this one has no end: a window of tasks instead
        waiting = [pool.apply_async(make, (first_seed + i,)) for i in range(4 * workers)]
        for seed in count(first_seed + len(waiting)):
            yield waiting.pop(0).get()
            waiting.append(pool.apply_async(make, (seed,)))


@functools.cache
def _made(
    expert: str, takeover: TakeoverSpec | None
) -> tuple["gymnasium.Env[Any, Any]", Demonstrator]:
    """One environment and one expert per process."""
    entry = EXPERTS[expert]
    others = () if takeover is None else observed_by(takeover)
    observation = tuple(dict.fromkeys((*entry.observation, *others)))
    environment = make_env(entry.environment, observation=observation)
    return environment, entry.build(environment)
