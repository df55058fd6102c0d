"""Environments by name. A simulator is imported when its environment is made, not before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import gymnasium

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import Registry

Builder = Callable[..., "gymnasium.Env[Any, Any]"]


@dataclass(frozen=True)
class Environment:
    """build: takes `observation` and options; distribution: the package that holds the simulator;
    extra: what to install for it, as in `pip install 'dipole[extra]'`."""

    build: Builder
    distribution: str
    extra: str


ENVIRONMENTS: Registry[Environment] = Registry("environment")


def make_env(
    name: str, observation: Sequence[str] | None = None, **options: Any
) -> "gymnasium.Env[Any, Any]":
    """An environment whose observation is a dictionary of the entries named in `observation`.

    observation: None for the environment's own choice; options: its builder's, e.g. render_size.
    Raises ConfigError for an unknown name or option, or where the simulator is not installed.
    """
    environment = ENVIRONMENTS[name]
    if observation is not None:
        options["observation"] = tuple(observation)
    try:
        return environment.build(**options)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dipole"):
            raise
        raise ConfigError(
            f"environment {name!r} needs {error.name}, which is not installed: "
            f"pip install 'dipole[{environment.extra}]'"
        ) from error


def environment_version(name: str) -> dict[str, str]:
    """What to write beside results: {"id": "pusht", "version": "gym-pusht 0.1.8"}."""
    distribution = ENVIRONMENTS[name].distribution
    try:
        return {"id": name, "version": f"{distribution} {version(distribution)}"}
    except PackageNotFoundError:
        return {"id": name, "version": f"{distribution} (not installed)"}


def _pusht(**options: Any) -> "gymnasium.Env[Any, Any]":
    from dipole.envs.pusht.environment import PushT

    return _made("pusht", PushT, options)


def _fork(**options: Any) -> "gymnasium.Env[Any, Any]":
    from dipole.envs.fork.environment import Fork

    return _made("fork", Fork, options)


def _made(
    name: str, build: "type[gymnasium.Env[Any, Any]]", options: dict[str, Any]
) -> "gymnasium.Env[Any, Any]":
    """Raises ConfigError for an option that the environment does not have."""
    import inspect

    from dipole.data.core.registry import nearest

    known = list(inspect.signature(build).parameters)
    for option in options:
        if option not in known:
            hint = nearest(option, known)
            raise ConfigError(
                f"environment {name!r} has no option {option!r}{hint or '.'} "
                f"Known: {', '.join(known)}"
            )
    return build(**options)


ENVIRONMENTS.add("pusht")(Environment(_pusht, distribution="gym-pusht", extra="pusht"))
ENVIRONMENTS.add("fork")(Environment(_fork, distribution="dipole", extra="dev"))
