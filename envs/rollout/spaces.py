"""What an environment says of its actions and observations, beside what it gives and what is asked.

A first look compares them before an evaluation or a recording begins (first_look.py).
"""

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.loading.features import Features
from dipole.envs.interface import ARRAY, entries_of, entry_of


def check_actions(
    name: str,
    space: Any,
    features: Features,
    whose: str = "the policy's",
    remedy: str = "evaluate it where it was trained for",
) -> None:
    """Raise ConfigError where actions are not what an environment takes.

    name: Of the environment. space: Its action space; None where it does not say. whose, remedy:
    For the message, of the actions.
    """
    if space is None:
        return
    if not isinstance(space, gymnasium.spaces.Box) or np.dtype(space.dtype).kind != "f":
        raise ConfigError(
            f"environment {name!r} takes actions of {space}, and a policy's are vectors of real "
            "numbers (a Box): wrap it in a gymnasium.ActionWrapper that makes its actions of such "
            "a vector, and register that"
        )
    action = getattr(features, "action", None)
    if action is not None and int(np.prod(space.shape)) != int(np.prod(action.stored_shape)):
        raise ConfigError(
            f"environment {name!r} takes actions of shape {list(space.shape)}, and {whose} "
            f"have {list(action.stored_shape)}: {remedy}"
        )


def check_observation(space: Any, observation: Any, entries: Iterable[str]) -> None:
    """Raise ConfigError where an observation is not what its own space says.

    Compared are the shape and the kind of numbers, as float32 is often said and float64 given.
    space: Of all observations; where it says nothing of an entry, nothing is compared.
    entries: Those that are looked at.
    """
    found = entries_of(observation)
    spaces = _as_dict(space) if found is observation else {ARRAY: space}
    for entry in entries:
        box, value = entry_of(spaces, entry), entry_of(found, entry)
        if value is None or not isinstance(box, gymnasium.spaces.Box):
            continue
        array = np.asarray(value)
        if array.shape == box.shape and _kind(array.dtype) == _kind(box.dtype):
            continue
        raise ConfigError(
            f"observation {entry!r} is {array.dtype} of shape {list(array.shape)}, and the "
            f"environment's observation_space says {box.dtype} of shape {list(box.shape)}: make "
            "the environment return what its space says, or the space say what it returns"
        )


def _as_dict(space: Any) -> Any:
    if not isinstance(space, gymnasium.spaces.Dict):
        return space
    return {name: _as_dict(each) for name, each in space.spaces.items()}


def _kind(dtype: Any) -> str:
    """Real numbers, whole numbers, truth values."""
    kind: str = np.dtype(dtype).kind
    return "i" if kind == "u" else kind
