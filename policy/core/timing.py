"""How long calls take, on a machine that others use too."""

import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def least_seconds(
    candidates: Mapping[Name, Callable[[], object]], rounds: int = 5, enough: float = math.inf
) -> dict[Name, float]:
    """The seconds of each candidate's fastest call, in turns, after one that does not count.

    The least, because what else the machine does only adds to a call.

    rounds: Calls of each candidate.
    enough: Seconds of one candidate's calls after which no further round begins.
    """
    for call in candidates.values():
        call()
    taken: dict[Name, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        if any(sum(seconds) >= enough for seconds in taken.values()):
            break
        for name, call in candidates.items():
            started = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - started)
    return {name: min(seconds) for name, seconds in taken.items()}
