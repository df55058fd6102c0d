"""What one look at a task's environment and its expert tells before a recording begins.

By the same checks as before an evaluation, so that errors come before anything is written.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.data.loading.features import Features
from dipole.envs.contract import EnvSpec
from dipole.envs.errors import errors_naming
from dipole.envs.experts import find_expert
from dipole.envs.experts.checked import CheckedExpert
from dipole.envs.experts.demonstrate import DemonstrationSpec
from dipole.envs.experts.task_environment import TaskEnvironment
from dipole.envs.interface import Interface, entries_of
from dipole.envs.registry import make_env, stored_names
from dipole.envs.rollout.first_look import made, observed
from dipole.envs.rollout.rate import frame_rate, steps_per_second
from dipole.envs.rollout.spaces import check_actions


@dataclass(frozen=True)
class RecordingLook:
    """fps: Steps a second; None where neither task nor environment says it. bounds: Lowest and
    highest action [A]."""

    fps: float | None
    bounds: tuple[Any, Any]


def first_look(spec: DemonstrationSpec, seed: int) -> RecordingLook:
    """Make the environment, reset it, look at what is recorded, and ask the expert for one action.

    Raises ConfigError where the task, the environment and the expert do not fit each other, and
    RolloutError where one of them raises. A policy that acts is not made.
    """
    environment, keys, looked_at = spec.environment, spec.keys, _looked_at(spec)
    with ExitStack() as stack:
        try:
            make = partial(make_env, environment, observation=looked_at)
            simulator = stack.enter_context(made(environment.id, make))
        except DipoleError as error:
            _refuse_targets(spec, error)
            raise
        space = getattr(simulator, "action_space", None)
        if spec.features is not None:
            remedy = "give task.action the environment's shape"
            check_actions(environment.id, space, spec.features, "the task's", remedy)
        interface = _interface(spec.features, environment)
        seen = observed(environment.id, simulator, interface, looked_at, seed)
        with errors_naming(f"demonstration of seed {seed}"):
            for target in spec.live_targets:
                target.read(entries_of(seen))
            keys.read(seen)
            if spec.teaching is None:
                expert = find_expert(spec.expert, environment)
                demonstrator = CheckedExpert.of(expert, simulator, spec.features)
                demonstrator.reset(seed)
                demonstrator.act(seen)
        bounds = TaskEnvironment(lambda: simulator, environment).bounds
        return RecordingLook(environment.fps or steps_per_second(simulator), bounds)


def first_look_by_hand(environment: EnvSpec) -> RecordingLook:
    """Of an environment in which a person acts."""
    rate = environment.fps or frame_rate(partial(make_env, environment))
    return RecordingLook(rate, (-np.inf, np.inf))


def _looked_at(spec: DemonstrationSpec) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*spec.keys.asked, *spec.looked_at]))


def _refuse_targets(spec: DemonstrationSpec, error: DipoleError) -> None:
    """Raises ConfigError, naming them, where targets alone are why an environment cannot be made.

    error: Of making it.
    """
    others = _looked_at(replace(spec, targets={}))
    lacking = [each for each in spec.live_targets if each.entry not in others]
    if not lacking:
        return
    environment = spec.environment
    try:
        with made(environment.id, partial(make_env, environment, observation=others)):
            pass
    except DipoleError:
        return
    said, _, _ = str(error).partition("\n")
    wanted = ", ".join(f"target {each.name!r} is made of {each.entry!r}" for each in lacking)
    raise ConfigError(
        f"{wanted}: {said}. Say which entry it is by environment.observation: "
        f"{{{lacking[0].key}: ENTRY}}, or leave it out by '~task.targets.{lacking[0].name}'"
    ) from error


def _interface(features: Features | None, environment: EnvSpec) -> Interface:
    """What is made of the task's numbers and pictures; words may be missing in a recording."""
    if features is None:
        return Interface((), reset=environment.reset)
    whole = Interface.of(features, environment, stored_names(environment))
    live = [each for each in whole.features or () if each.feature and each.feature.kind != "text"]
    return replace(whole, features=tuple(live))
