"""How a simulator tells that its state is not finite any more: without dipole, for both sides.

exceptions           by their names: dm_control's PhysicsError, or a DivergedError of one's own
`diverged()`         a method of the environment, asked after each step
`data`               MuJoCo's, whose counters say that it found such a state (and began anew)
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Callable  # noqa: UP035  Python 3.8

with contextlib.suppress(ImportError):  # the server's greeting says that it is missing
    import numpy as np

ERRORS = ("PhysicsError", "DivergedError")  # names of classes, or of what they are derived from
# MuJoCo's warnings of positions, velocities and accelerations that are NaN, infinite or above 1e10.
COUNTERS = ("mjWARN_BADQPOS", "mjWARN_BADQVEL", "mjWARN_BADQACC")


class DivergedError(Exception):
    """The simulator's state is not finite."""


def is_divergence(error: BaseException) -> bool:
    """Whether an exception says that the simulator's state is not finite."""
    return any(kind.__name__ in ERRORS for kind in type(error).__mro__)


def forget(environment: Any) -> None:
    """Before a reset, which need not do so: what was counted belongs to the episode before."""
    for counter in _counters(environment):
        counter.number = 0


def watched(environment: Any) -> Callable[[], bool]:
    """What says, after a reset and each step, whether the state is not finite."""
    told = offered(environment, "diverged")
    if callable(told):
        return lambda: bool(told())
    counters = _counters(environment)
    return lambda: any(counter.number for counter in counters)


def is_finite(observation: Any) -> bool:
    """Whether no number of an observation says that the simulator diverged: infinity in a picture
    of depth, or another table of numbers, does not."""
    if isinstance(observation, dict):
        return all(map(is_finite, observation.values()))
    value = np.asarray(observation)
    if value.dtype.kind != "f":
        return True
    return bool(np.isfinite(value).all() if value.ndim < 2 else not np.isnan(value).any())


def _counters(environment: Any) -> list[Any]:
    """Of MuJoCo's warnings, where an environment offers its data."""
    mujoco = sys.modules.get("mujoco")
    warnings = None if mujoco is None else getattr(offered(environment, "data"), "warning", None)
    if mujoco is None or warnings is None:
        return []
    return [warnings[int(getattr(mujoco.mjtWarning, name))] for name in COUNTERS]


def offered(environment: Any, name: str) -> Any:
    """An attribute of an environment, or of one that it wraps; None where there is none. As that of
    dipole.envs.wrapped, which is not at hand where this file runs."""
    while environment is not None:
        found = getattr(environment, name, None)
        if found is not None:
            return found
        environment = getattr(environment, "env", None)
    return None
