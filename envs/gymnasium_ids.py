"""Environments by their gymnasium ids: "gym:Pusher-v5", "gym:module:Id-v0"."""

import contextlib
import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.metadata import (
    PackageNotFoundError,
    entry_points,
    packages_distributions,
    requires,
    version,
)
from typing import Any

import gymnasium

from dipole.data.core.errors import ConfigError
from dipole.envs.media.headless import prepare_rendering

# Packages that register their environments when imported, and have no entry point that says so.
REGISTERING = ("gymnasium_robotics",)
NEEDS_MUJOCO = re.compile(r"mujoco(?![\w.-])(?!.*\bextra\b)").match  # of requirements
Environment = gymnasium.Env[Any, Any]


def make_gymnasium(
    name: str, *, max_steps: int | None, render: bool, options: Mapping[str, Any]
) -> Environment:
    """The environment of a gymnasium id, without the prefix.

    max_steps: instead of the registered time limit. render: to "rgb_array", where it can.
    Raises ConfigError for an unknown id or option, and for what is not installed.
    """
    prepare_rendering()
    if "AdroitHand" not in name:
        silence_notice()
    given = dict(options)
    if max_steps is not None:
        given["max_episode_steps"] = max_steps
    environment = _made(name, given)
    if render and "render_mode" not in given and "rgb_array" in _render_modes(environment):
        environment.close()
        environment = _made(name, {**given, "render_mode": "rgb_array"})
    return environment


def gymnasium_version(name: str) -> str:
    """The distribution that holds an environment that was made, with its version, and the version
    of MuJoCo where it is computed by that: "gymnasium 1.2.0, mujoco 3.3.7"."""
    registered = gymnasium.registry.get(name.rpartition(":")[2])
    point = getattr(registered, "entry_point", None)
    module = point if isinstance(point, str) else getattr(point, "__module__", "")
    package = module.partition(":")[0].partition(".")[0]
    distribution = (packages_distributions().get(package) or [package or "unknown"])[0]
    try:
        return distribution_version(distribution, with_mujoco="mujoco" in module.lower())
    except PackageNotFoundError:
        return distribution


def distribution_version(distribution: str, *, with_mujoco: bool = False) -> str:
    """Its name and version, and MuJoCo's where it needs that: contacts differ between versions.

    "gymnasium-robotics 1.4.2, mujoco 3.3.0". Raises PackageNotFoundError for what is not installed.
    """
    said = f"{distribution} {version(distribution)}"
    with_mujoco = with_mujoco or any(map(NEEDS_MUJOCO, requires(distribution) or ()))
    return f"{said}, {_version('mujoco')}" if with_mujoco else said


def silence_notice() -> None:
    """Leave out one notice that gymnasium-robotics prints whenever it is imported: that the dense
    rewards of Adroit's hands were changed in its version 1.2.1 (docs/hands_and_kitchen.md).

    Called before gymnasium_robotics is imported. None of its other notices is left out.
    """
    with contextlib.suppress(ImportError):  # it prints none without this package
        from farama_notifications import notifications

        said = notifications.get("gymnasium_robotics", {})
        for release in [each for each, text in said.items() if "AdroitHand" in text]:
            del said[release]


def _version(distribution: str) -> str:
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return distribution


def _made(name: str, given: Mapping[str, Any]) -> Environment:
    errors = gymnasium.error
    try:
        return gymnasium.make(name, disable_env_checker=True, **given)
    except errors.UnregisteredEnv as error:
        if _is_first_time():
            _register_installed()
            return _made(name, given)
        failures = "".join(f" {failure}." for failure in _register_installed())
        raise ConfigError(
            f"environment 'gym:{name}' is not registered: {error}{failures} Install the package "
            "that has it; if importing that registers its environments, name the module too: "
            f"environment=gym:MODULE:{name.rpartition(':')[2]}"
        ) from error
    except errors.Error as error:  # what has to be installed, a version that is no more
        raise ConfigError(f"environment 'gym:{name}': {error}") from error
    except ModuleNotFoundError as error:
        missing = _missing(error) or name.rpartition(":")[0]
        raise ConfigError(
            f"environment 'gym:{name}' needs {missing}, which cannot be imported: install it, or "
            "put it where Python finds it (PYTHONPATH)"
        ) from error
    except TypeError as error:
        raise ConfigError(f"environment 'gym:{name}', options {dict(given)}: {error}") from error


def _missing(error: ModuleNotFoundError) -> str | None:
    """The module that was not found; gymnasium raises the error of an id's module anew."""
    cause = error.__cause__
    return error.name or (cause.name if isinstance(cause, ModuleNotFoundError) else None)


def _is_first_time() -> bool:
    return _register_installed.cache_info().currsize == 0


@cache
def _register_installed() -> tuple[str, ...]:
    """Register the environments of installed packages; what went wrong, a text each."""
    points = [(point.name, point.load) for point in entry_points(group="gymnasium.envs")]
    packages = [package for package in REGISTERING if importlib.util.find_spec(package)]
    modules = [(package, partial(importlib.import_module, package)) for package in packages]
    failures = [_failure(name, load) for name, load in points]
    failures += [_failure(name, load) for name, load in modules]
    return tuple(filter(None, failures))


def _failure(name: str, load: Callable[[], Any]) -> str:
    """What went wrong, or "". What is loaded is a module, or a function that registers."""
    try:
        loaded = load()
        if callable(loaded):
            loaded()
    except Exception as error:  # somebody else's package: others can be used all the same
        return f"{name} is installed, and cannot be used: {error}"
    return ""


def _render_modes(environment: Environment) -> list[str]:
    return list(environment.metadata.get("render_modes") or ())
