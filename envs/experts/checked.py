"""An expert that is made for an environment, whose actions are checked before they are executed.

What is wrong with an action is otherwise met later and elsewhere: as the simulator's reward that is
no number, or as a dataset of another shape than its task says.
"""

import traceback
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.data.loading.features import Features
from dipole.data.recording.record import Demonstrator, Observation
from dipole.envs.errors import RolloutError
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.experts.recorded import is_whole

METHODS = {"reset": "reset(seed)", "act": "act(observation)"}


class CheckedExpert:
    """An expert of an environment; see `Demonstrator`.

    name: For messages. shape: Of its actions; None where nobody says it.
    """

    def __init__(self, demonstrator: Demonstrator, name: str, shape: tuple[int, ...] | None):
        for method, call in METHODS.items():
            if not callable(getattr(demonstrator, method, None)):
                needed = " and ".join(METHODS.values())
                raise ConfigError(f"{name} has no {call}: an expert has the methods {needed}")
        self._demonstrator, self._name, self._shape = demonstrator, name, shape

    @classmethod
    def of(cls, expert: Expert, environment: Any, features: Features | None) -> "CheckedExpert":
        """environment: That it acts in. features: Of the task; None for no task.

        Raises ConfigError for an expert that lacks a method, RolloutError where making it raises.
        """
        demonstrator = _built(expert, environment)
        return cls(demonstrator, expert_name(expert), _shape(environment, features))

    def move_to(self, expert: Expert, environment: Any) -> None:
        """Act in another environment of the same kind from the next episode on."""
        self._demonstrator = _built(expert, environment)

    def reset(self, seed: int) -> None:
        """Before an episode."""
        self._demonstrator.reset(seed)

    def act(self, observation: Observation) -> np.ndarray:
        """The next action, float32 [*shape]. Raises ConfigError for what is none."""
        return checked_action(self._demonstrator.act(observation), self._name, self._shape)


def _built(expert: Expert, environment: Any) -> Demonstrator:
    name = expert_name(expert)
    try:
        return expert.build(environment)
    except DipoleError:
        raise
    except Exception as error:
        raise RolloutError(
            f"{name} raised {type(error).__name__} when it was made: {error}"
            f"{_beneath(error, environment)}\n{''.join(traceback.format_exception(error))}"
        ) from error


def checked_action(action: Any, name: str, shape: tuple[int, ...] | None) -> np.ndarray:
    """An action as it is executed and stored, float32 [*shape].

    name: Whose it is. shape: That is needed; None where nobody says it.
    Raises ConfigError for another shape, and for what is no number or not finite.
    """
    needed = "an array of numbers" + ("" if shape is None else f" of shape {list(shape)}")
    if action is None:
        raise ConfigError(f"{name} returned None: `act` has to return an action, {needed}")
    try:
        array = np.asarray(action, dtype=np.float32)
    except (TypeError, ValueError) as error:
        kind = type(action).__name__
        raise ConfigError(
            f"{name} returned a {kind} that is no array: `act` has to return {needed}"
        ) from error
    if shape is not None and array.shape != shape:
        raise ConfigError(
            f"{name} returned an action of shape {list(array.shape)}: `act` has to return {needed}"
        )
    if not np.isfinite(array).all():
        raise ConfigError(f"{name} returned an action that is not finite: {array.tolist()}")
    return array


def expert_name(expert: Expert) -> str:
    """ "the expert 'reach'", or "the expert" of one that is not registered."""
    names = (name for name in EXPERTS.names() if EXPERTS[name] is expert)
    return next((f"the expert {name!r}" for name in names), "the expert")


def _shape(environment: Any, features: Features | None) -> tuple[int, ...] | None:
    """Of a stored action: the task's, where it reads it whole, or else the environment's."""
    if features is not None and is_whole(features.action):
        return features.action.stored_shape
    shape: tuple[int, ...] | None = getattr(
        getattr(environment, "action_space", None), "shape", None
    )
    return shape


def _beneath(error: Exception, environment: Any) -> str:
    """A hint where an attribute was looked for in gymnasium's wrapper around what has it."""
    name = getattr(error, "name", None)
    inner = getattr(environment, "unwrapped", environment)
    if not isinstance(error, AttributeError) or not name or not hasattr(inner, name):
        return ""
    return f". The environment's own attributes are at environment.unwrapped.{name}"
