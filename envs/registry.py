"""Environments by name. A simulator is imported when its environment is made, not before.

Each family registers itself and its expert in its own folder (pusht/family.py).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError
from typing import Any, get_type_hints

import gymnasium
import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import fitted
from dipole.data.core.registry import Registry, check_options, nearest
from dipole.envs.contract import EnvSpec
from dipole.envs.gymnasium_ids import (
    distribution_version,
    gymnasium_version,
    make_gymnasium,
)

Builder = Callable[..., "gymnasium.Env[Any, Any]"]


class Imported:
    """What makes an environment, imported when one, or its parameters, are asked for.

    load: Imports it and returns it; what has to happen before the import belongs there.
    """

    def __init__(self, load: Callable[[], Builder]) -> None:
        self._load = load

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._load())

    @property
    def hints(self) -> dict[str, Any]:
        """The types of its parameters."""
        return _hints(self._load())

    def __call__(self, **options: Any) -> "gymnasium.Env[Any, Any]":
        return self._load()(**options)


SEEDS = 2**63  # that there are, from 0: datasets hold an episode's in 64 bits with a sign
CHOSEN = ("task", "observation")  # parameters of builders that are no options: the name says one


@dataclass(frozen=True)
class Environment:
    """A family of simulators.

    build: Makes one, `Imported` where it is a simulator's module. Its parameters are the options of
        the environment, and their annotations the types that are taken; one that has a parameter
        `observation` is told which entries are looked at, and may leave out the others; one of
        several tasks is told which by `task`.
    distribution: The package that holds the simulator.
    extra: What to install for it, as in `pip install 'dipole[extra]'`; "" for none.
    observation: {stored key: entry of its observations}, where they have different names.
    score: The metric that decides; None: success_rate, or return_mean where it knows no success.
    tasks: The names of its tasks, "reach" of "metaworld/reach"; none where it has only one.
    standalone: The file that makes it in an interpreter of its own (environment.python), by its
        function `make(task, observation, **options)` and without dipole; None: it cannot run there.
    install: Requirements of that file there, as pip has them.
    seeds: How many the simulator takes, from 0.
    """

    build: Builder
    distribution: str
    extra: str = ""
    observation: Mapping[str, str] = field(default_factory=dict)
    score: str | None = None
    tasks: tuple[str, ...] = ()
    standalone: str | None = None
    install: str = ""
    seeds: int = SEEDS


ENVIRONMENTS: Registry[Environment] = Registry("environment")


def make_env(
    environment: str | EnvSpec,
    observation: Sequence[str] | None = None,
    *,
    render: bool = False,
    **options: Any,
) -> "gymnasium.Env[Any, Any]":
    """An environment by its name, or by a task's whole specification.

    observation: entries of its observation that are looked at; None for the environment's own
        choice. render: whether pictures of it will be asked for. options: its builder's, over those
        of the specification, e.g. render_size.
    Raises ConfigError for an unknown name or option, for an option of another type, or where the
    simulator is not installed.
    """
    spec = EnvSpec.read(environment)
    given = {**spec.options, **options}
    if spec.python is not None:
        return _make_there(spec, observation, render, given)
    name = spec.gymnasium_id
    if name is not None:
        return make_gymnasium(name, max_steps=spec.max_steps, render=render, options=given)
    family = family_of(spec)
    try:
        return _make_family(family, spec, observation, given)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dipole"):
            raise
        what = f"pip install 'dipole[{family.extra}]'" if family.extra else "install it"
        raise ConfigError(
            f"environment {spec.id!r} needs {error.name}, which is not installed: {what}"
        ) from error


def _make_family(
    family: Environment,
    spec: EnvSpec,
    observation: Sequence[str] | None,
    options: Mapping[str, Any],
) -> "gymnasium.Env[Any, Any]":
    given = _fitted_options(spec, family, options)
    if spec.task is not None:
        given["task"] = spec.task
    if observation is not None and is_told(family.build):
        given["observation"] = tuple(observation)
    if spec.max_steps is not None and "max_steps" in inspect.signature(family.build).parameters:
        given.setdefault("max_steps", spec.max_steps)
    return family.build(**given)


def _make_there(
    spec: EnvSpec, observation: Sequence[str] | None, render: bool, options: Mapping[str, Any]
) -> "gymnasium.Env[Any, Any]":
    """An environment in an interpreter of its own; see `make_env`."""
    from dipole.envs.interpreter.client import make_there

    if spec.gymnasium_id is not None:
        return make_there(spec, options, render=render)
    family = family_of(spec)
    if family.standalone is None:
        raise ConfigError(
            f"environment {spec.id!r} does not run in an interpreter of its own: leave out "
            "environment.python"
        )
    return make_there(
        spec,
        _fitted_options(spec, family, options),
        observation=observation,
        standalone=family.standalone,
        install=family.install,
    )


def _fitted_options(
    spec: EnvSpec, family: Environment, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Options as what makes the environment takes them. Raises ConfigError for an unknown one, and
    for one of another type than it is annotated with."""
    build = family.build
    check_options("environment", spec.id, build, options, CHOSEN)
    hints = build.hints if isinstance(build, Imported) else _hints(build)
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in options.items()}
    return {
        name: fitted(value, hints.get(name, Any), f"environment.options.{name}")
        for name, value in plain.items()
    }


def _hints(build: Builder) -> dict[str, Any]:
    """Of a function's parameters, or of a class's; none where they cannot be resolved."""
    of: Any = build.__init__ if inspect.isclass(build) else build
    try:
        return get_type_hints(of)
    except (NameError, TypeError):  # names of type checkers alone; a partial has none
        return {}


def family_of(spec: EnvSpec) -> Environment:
    """The family of a specification that is no gymnasium id.

    Raises ConfigError for an unknown family, and for a task that it has not.
    """
    if ":" in spec.id:
        parts = [part for part in spec.id.split(":") if not get_close_matches(part, ["gym"])]
        raise ConfigError(
            f"unknown environment {spec.id!r}: gymnasium's are named gym:ID, or gym:MODULE:ID with "
            f"the module that registers it. Did you mean {':'.join(['gym', *parts])!r}?"
        )
    family = ENVIRONMENTS[spec.family]
    task = spec.task
    if task is None and not family.tasks:
        return family
    if not family.tasks:
        raise ConfigError(f"environment {spec.family!r} has no tasks: {spec.id!r} names one")
    if task not in family.tasks:
        known = ", ".join(f"{spec.family}/{name}" for name in family.tasks)
        said = (
            f"has no task {task!r}{nearest(task, family.tasks) or '.'}"
            if task
            else "is several tasks: name one."
        )
        raise ConfigError(f"environment {spec.family!r} {said} Known: {known}")
    return family


def is_told(build: Builder) -> bool:
    """Whether what makes an environment is told which of its observations are looked at."""
    parameters = inspect.signature(build).parameters
    return "observation" in parameters or any(
        each.kind is each.VAR_KEYWORD for each in parameters.values()
    )


def stored_names(spec: EnvSpec) -> dict[str, str]:
    """{stored key: entry of the observation}, where they differ: the family's, then the task's."""
    own = {} if spec.gymnasium_id is not None else family_of(spec).observation
    return {**own, **spec.observation}


def score_name(spec: EnvSpec) -> str | None:
    """The metric that decides, if the task or the family says it."""
    if spec.score is not None or spec.gymnasium_id is not None:
        return spec.score
    return family_of(spec).score


def check_environment(spec: EnvSpec) -> None:
    """Raises ConfigError for an unknown family or task, before anything takes long."""
    if spec.gymnasium_id is None:
        family_of(spec)


def check_seeds(spec: EnvSpec | None, seed: int, episodes: int, name: str = "seed") -> None:
    """Raises ConfigError where an episode's seed would be one that the simulator does not take.

    spec: None for a simulator of nobody's knowledge. name: Of the setting, in the message.
    """
    known = spec is not None and spec.gymnasium_id is None
    seeds = family_of(spec).seeds if spec is not None and known else SEEDS
    if seed + episodes > seeds:
        where = f" of {spec.id!r}" if spec is not None and known else ""
        raise ConfigError(
            f"{name} is {seed}: for episodes={episodes}{where} it is at most {seeds - episodes}"
        )


def environment_version(environment: str | EnvSpec) -> dict[str, str]:
    """What to write beside results: {"id": "pusht", "version": "gym-pusht 0.1.8"}.

    Of an interpreter of its own: the versions there, once the environment was made.
    """
    spec = EnvSpec.read(environment)
    name = spec.id
    if spec.python is not None:
        from dipole.envs.interpreter.client import version_there

        return {"id": name, "version": version_there(spec)}
    if spec.gymnasium_id is not None:
        return {"id": name, "version": gymnasium_version(spec.gymnasium_id)}
    distribution = family_of(spec).distribution
    try:
        return {"id": name, "version": distribution_version(distribution)}
    except PackageNotFoundError:
        return {"id": name, "version": f"{distribution} (not installed)"}
