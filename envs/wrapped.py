"""What an environment offers beside gymnasium's interface, found through gymnasium's wrappers."""

from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

Environment = gymnasium.Env[Any, Any]
TRANSPARENT = (OrderEnforcing, PassiveEnvChecker, TimeLimit)  # they change no step


@runtime_checkable
class AdvancesWithoutLooking(Protocol):
    """An environment that can step without computing an observation."""

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]: ...

    def observe(self) -> Any: ...


def advancing(environment: Environment) -> tuple[AdvancesWithoutLooking | None, int | None]:
    """What can step without looking, and the time limit of the wrappers around it.

    None where it cannot, or where a wrapper around it changes what a step is.
    """
    limits = []
    while isinstance(environment, TRANSPARENT):
        if isinstance(environment, TimeLimit):
            limits.append(int(environment._max_episode_steps))
        environment = environment.env
    offered = environment if isinstance(environment, AdvancesWithoutLooking) else None
    return offered, min(limits, default=None)


def offered(environment: Any, name: str) -> Any:
    """An attribute of an environment, or of one that it wraps; None where there is none."""
    while environment is not None:
        found = getattr(environment, name, None)
        if found is not None:
            return found
        environment = getattr(environment, "env", None)
    return None
