"""Environments by their gymnasium ids: "gym:Pusher-v5", "gym:module:Id-v0"."""

import importlib
import importlib.util
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, version
from typing import Any

import gymnasium

from dipole.data.core.errors import ConfigError

# Packages that register their environments when imported, and have no entry point that says so.
REGISTERING = ("gymnasium_robotics",)
Environment = gymnasium.Env[Any, Any]


def make_gymnasium(
    name: str, *, max_steps: int | None, render: bool, options: Mapping[str, Any]
) -> Environment:
    """The environment of a gymnasium id, without the prefix.

    max_steps: instead of the registered time limit. render: to "rgb_array", where it can.
    Raises ConfigError for an unknown id or option, and for what is not installed.
    """
    given = dict(options)
    if max_steps is not None:
        given["max_episode_steps"] = max_steps
    environment = _made(name, given)
    if render and "render_mode" not in given and "rgb_array" in _render_modes(environment):
        environment.close()
        environment = _made(name, {**given, "render_mode": "rgb_array"})
    return environment


def gymnasium_version(name: str) -> str:
    """The distribution that holds the environment, with its version: "gymnasium 1.2.0"."""
    registered = gymnasium.registry.get(name.rpartition(":")[2])
    point = getattr(registered, "entry_point", None)
    module = point if isinstance(point, str) else getattr(point, "__module__", "")
    package = module.partition(":")[0].partition(".")[0]
    distribution = (packages_distributions().get(package) or [package or "unknown"])[0]
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return distribution


def _made(name: str, given: Mapping[str, Any]) -> Environment:
    errors = gymnasium.error
    try:
        return gymnasium.make(name, disable_env_checker=True, **given)
    except (errors.UnregisteredEnv, errors.VersionNotFound) as error:
        if _register_installed():
            return _made(name, given)
        raise ConfigError(
            f"environment 'gym:{name}' is not registered: {error} Install the package that has "
            "it; if importing that registers its environments, name the module too: "
            f"environment=gym:MODULE:{name.rpartition(':')[2]}"
        ) from error
    except errors.DependencyNotInstalled as error:
        raise ConfigError(f"environment 'gym:{name}': {error}") from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"environment 'gym:{name}' needs {error.name}, which cannot be imported: install it"
        ) from error
    except TypeError as error:
        raise ConfigError(f"environment 'gym:{name}', options {dict(given)}: {error}") from error


def _register_installed() -> bool:
    """Register the environments of installed packages; whether that was not done before."""
    before = _registered.cache_info().currsize
    _registered()
    return before == 0


@cache
def _registered() -> None:
    for point in entry_points(group="gymnasium.envs"):
        register = point.load()
        if callable(register):
            register()
    for package in REGISTERING:
        if importlib.util.find_spec(package) is not None:
            gymnasium.register_envs(importlib.import_module(package))


def _render_modes(environment: Environment) -> list[str]:
    return list(environment.metadata.get("render_modes") or ())
