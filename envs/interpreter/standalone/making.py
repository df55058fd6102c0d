"""How a simulator is made: by a family's file, or by an id of gymnasium or of gym.

Runs in the simulator's interpreter, and needs nothing of dipole.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
from typing import Any

REGISTERING = ("gymnasium_robotics",)  # packages that register their environments when imported


def by_file(
    file: str,
    task: str | None,
    observation: list[str] | None,
    max_steps: int | None,
    options: dict[str, Any],
) -> tuple[Any, dict[str, str]]:
    """A family's standalone environment: its file's `make(task, observation, **options)`, of which
    `max_steps` is one where it has a parameter of that name."""
    found = importlib.util.spec_from_file_location("environment_of_a_family", file)
    module = importlib.util.module_from_spec(found)  # type: ignore[arg-type]
    sys.modules[found.name] = module  # type: ignore[union-attr]
    found.loader.exec_module(module)  # type: ignore[union-attr]
    given = dict(options)
    if max_steps is not None and "max_steps" in inspect.signature(module.make).parameters:
        given.setdefault("max_steps", max_steps)
    environment = module.make(task, observation, **given)
    return environment, _versions(*getattr(module, "DISTRIBUTIONS", ()))


def by_id(
    name: str, max_steps: int | None, options: dict[str, Any], render: bool
) -> tuple[Any, dict[str, str]]:
    """Of gymnasium, or of gym where only that is installed: drawn as an array where it can."""
    library = _library()
    module, _, own = name.rpartition(":")
    if module:
        importlib.import_module(module)
    given = dict(options)
    limits = _takes(library.make, "max_episode_steps")
    if max_steps is not None and limits:
        given["max_episode_steps"] = max_steps
    if render and "render_mode" not in given and "rgb_array" in _render_modes(library, own):
        given["render_mode"] = "rgb_array"
    try:
        environment = _made(library, own, given)
    except library.error.UnregisteredEnv:
        _register_installed()
        environment = _made(library, own, given)
    if max_steps is not None and not limits:
        environment.limit(max_steps)
    point = getattr(environment.spec, "entry_point", None)
    place = point if isinstance(point, str) else getattr(point, "__module__", "")
    others = ["mujoco"] if "mujoco" in place.lower() else []
    package = place.partition(":")[0].partition(".")[0]
    return environment, _versions(package, *others, library.__name__)


def _library() -> Any:
    """Gymnasium, or gym where only that is installed."""
    for name in ("gymnasium", "gym"):
        if importlib.util.find_spec(name) is not None:
            return importlib.import_module(name)
    return importlib.import_module("gymnasium")  # the error names it


def _takes(function: Any, name: str) -> bool:
    """Whether a function has a parameter of this name."""
    return name in inspect.signature(function).parameters


def _made(library: Any, name: str, given: dict[str, Any]) -> Any:
    if library.__name__ == "gym":
        return Gym(library.make(name, **given))
    return library.make(name, disable_env_checker=True, **given)


def _render_modes(library: Any, name: str) -> Any:
    """Of an environment that is not made: some simulators can be made only once a process."""
    try:
        point = library.spec(name).entry_point
        if isinstance(point, str):
            module, _, attribute = point.partition(":")
            point = getattr(importlib.import_module(module), attribute)
    except (library.error.Error, ImportError, AttributeError):
        return ()
    return (getattr(point, "metadata", None) or {}).get("render_modes") or ()


def _register_installed() -> None:
    """Import what registers environments: somebody else's packages, of which any may fail."""
    from importlib.metadata import entry_points

    points: Any = entry_points()
    plugins = (
        points.select(group="gymnasium.envs")
        if hasattr(points, "select")
        else points.get("gymnasium.envs", ())
    )
    for point in plugins:
        with contextlib.suppress(Exception):
            loaded = point.load()
            if callable(loaded):
                loaded()
    for package in REGISTERING:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)


class Gym:
    """An environment of gym, before or after its version 0.26, with gymnasium's methods."""

    def __init__(self, environment: Any) -> None:
        self.env, self.spec = environment, environment.spec
        self.observation_space = environment.observation_space
        self.action_space = environment.action_space
        metadata = dict(environment.metadata)
        self.metadata = {"render_modes": metadata.get("render.modes", []), **metadata}

    def limit(self, max_steps: int) -> None:
        """Before 0.23 `make` passes what it does not know to the simulator: the limit that it was
        registered with is changed in its wrapper, and where there is none dipole counts."""
        if hasattr(self.env, "_max_episode_steps"):
            self.env._max_episode_steps = max_steps

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        given: dict[str, Any] = {}
        if options is not None:
            if not self._reset_takes("options"):
                raise ValueError(
                    f"environment.reset is {options}, and the reset of this environment of gym "
                    "takes no options: leave it out, or see whether the simulator takes them when "
                    "it is made (environment.options)"
                )
            given["options"] = options
        if self._reset_takes("seed"):
            given["seed"] = seed
        else:  # before 0.22
            self.env.seed(seed)
        found = self.env.reset(**given)
        return found if isinstance(found, tuple) and len(found) == 2 else (found, {})

    def _reset_takes(self, name: str) -> bool:
        """Whether `reset` has such an argument, the simulator's own, which wrappers pass on."""
        environment = self.env
        while True:
            parameters = inspect.signature(environment.reset).parameters
            passes_on = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
            if name not in parameters and not passes_on:
                return False
            if environment is getattr(environment, "unwrapped", environment):
                return True
            environment = environment.env

    def step(self, action: Any) -> tuple[Any, ...]:
        found = self.env.step(action)
        if len(found) == 5:
            return tuple(found)
        observation, reward, over, info = found
        truncated = bool(info.get("TimeLimit.truncated", False))
        return observation, reward, over and not truncated, truncated, info

    def render(self) -> Any:
        drawn = getattr(self.env, "render_mode", None) == "rgb_array"
        return self.env.render() if drawn else self.env.render(mode="rgb_array")

    def close(self) -> None:
        self.env.close()


def _versions(*packages: str) -> dict[str, str]:
    """{distribution: version}, as far as they are known."""
    from importlib import metadata

    known: Any = getattr(metadata, "packages_distributions", dict)  # since Python 3.10
    names = known()
    found: dict[str, str] = {}
    for package in filter(None, packages):
        distribution = (names.get(package) or [package])[0]
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[distribution] = metadata.version(distribution)
    return found
