"""Recording demonstrations: an environment's loop, written into an episode store.

The environment and whoever acts in it are given; this file knows neither.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Observation = Mapping[str, np.ndarray]
Prelude = Callable[[Observation], np.ndarray | None]
Disturb = Callable[[np.ndarray], np.ndarray]


class Environment(Protocol):
    """The part of gymnasium's interface that recording needs."""

    def reset(self, *, seed: int | None = None) -> tuple[Observation, dict[str, Any]]: ...

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]: ...


class Demonstrator(Protocol):
    """Whoever shows how it is done. reset: before each episode, with its seed."""

    def reset(self, seed: int) -> None: ...

    def act(self, observation: Observation) -> np.ndarray: ...


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode. frames: {key: [T, *shape]}, what was observed and the "action" on it.

    The state after the last action is not part of it: every frame has both. max_reward: the largest
    of a step, -inf where there was none.
    """

    seed: int
    frames: dict[str, np.ndarray]
    success: bool
    max_reward: float

    def __len__(self) -> int:
        return len(self.frames["action"])  # 0 where the prelude ended the episode


def record_episode(
    environment: Environment,
    demonstrator: Demonstrator,
    seed: int,
    disturb: Disturb | None = None,
    prelude: Prelude | None = None,
    keys: Sequence[str] | None = None,
) -> Demonstration:
    """One episode, to its end.

    prelude: acts first, unrecorded, until it returns None: the demonstration begins where it leads.
    keys: which entries of an observation are recorded; None for all.

    disturb: turns an action [A] into the one that is executed; what is recorded is the
    demonstrator's own, so that the data shows how to get back (Laskey et al., 2017, "DART").
    """
    observation, _ = environment.reset(seed=seed)
    demonstrator.reset(seed)
    frames: dict[str, list[np.ndarray]] = {"action": []}
    best, success, over = -math.inf, False, False
    while prelude is not None and not over and (action := prelude(observation)) is not None:
        observation, _, terminated, truncated, _ = environment.step(action)
        over = terminated or truncated
    while not over:
        action = np.asarray(demonstrator.act(observation), dtype=np.float32)
        for key in observation if keys is None else keys:
            frames.setdefault(key, []).append(np.array(observation[key]))
        frames["action"].append(action)
        executed = action if disturb is None else disturb(action)
        observation, reward, terminated, truncated, info = environment.step(executed)
        best = max(best, float(reward))
        success |= bool(info.get("is_success", False))
        over = terminated or truncated
    return Demonstration(seed, {k: np.array(v) for k, v in frames.items()}, success, best)


def successful(
    demonstrations: Iterator[Demonstration], episodes: int, minimum_frames: int
) -> Iterator[Demonstration]:
    """The first `episodes` demonstrations that succeed and last at least `minimum_frames`."""
    kept = 0
    for demonstration in demonstrations:
        if demonstration.success and len(demonstration) >= minimum_frames:
            yield demonstration
            kept += 1
            if kept == episodes:
                return
