"""Experts by name: they know how a task is done and produce demonstrations.

An expert is imported when it is made, and with it the simulator that it plans in. Each family
registers its own (pusht/family.py).
"""

import importlib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import gymnasium

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.data.core.registry import Registry
from dipole.data.recording.record import Demonstrator
from dipole.envs.contract import EnvSpec
from dipole.envs.experts.action_noise import DisturbanceSpec
from dipole.envs.registry import check_environment

SCRIPTED = "scripted"  # the name of whichever expert an environment has
ANYWHERE = "*"  # where an expert acts that has to be asked for by its name


@dataclass(frozen=True)
class Expert:
    """Who shows how a task is done.

    build: Makes one, for an environment that gymnasium.make returned and that it may look into;
        what an environment has beside gymnasium's interface is at its `unwrapped`.
    environment: Where it acts: a family, one task of it, a gymnasium id, or ANYWHERE.
    observation: The entries of the environment's observation that it looks at. They are recorded,
        beside what the task's policies see.
    disturbance: Of its executed actions, where none is asked for; None: none. Where it depends on
        the environment's options, a function of them.
    options: Of the environment that it demonstrates in, where the task does not say others.
    keep: Which of its episodes are kept where nothing else is asked: "success", or "all".
    Raises ConfigError for entries that are no tuple of names, and for another `keep`.
    """

    build: Callable[["gymnasium.Env[Any, Any]"], Demonstrator]
    environment: str
    observation: tuple[str, ...]
    disturbance: DisturbanceSpec | Callable[[Mapping[str, Any]], DisturbanceSpec] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    keep: str = "success"

    def __post_init__(self) -> None:
        if self.keep not in ("success", "all"):
            raise ConfigError(
                f"keep={self.keep!r} of an expert in {self.environment!r}: it is success or all"
            )
        entries: Any = self.observation
        listed = isinstance(entries, tuple | list) and all(isinstance(e, str) for e in entries)
        if not listed:
            meant = f", ({entries!r},) with a comma" if isinstance(entries, str) else ""
            raise ConfigError(
                f"the observation of an expert in {self.environment!r} is {entries!r}: a tuple of "
                f"names of entries is needed{meant}"
            )

    def demonstrating_in(self, environment: EnvSpec) -> EnvSpec:
        """The environment with the expert's options."""
        return replace(environment, options={**self.options, **environment.options})

    def disturbance_in(self, environment: EnvSpec) -> DisturbanceSpec | None:
        """The disturbance in an environment with these options."""
        own = self.disturbance
        return own if own is None or isinstance(own, DisturbanceSpec) else own(environment.options)


EXPERTS: Registry[Expert] = Registry("expert")


def find_expert(name: str | None, environment: EnvSpec) -> Expert:
    """The expert of a name, or whichever knows the environment: None, "scripted".

    One of the task goes before one of the family. The module that an environment's id names is
    imported: it may register its own expert. Raises ConfigError where there is none, and for one
    that acts in another environment.
    """
    family = environment.family or environment.id
    check_environment(environment)
    if environment.module is not None:
        _import(environment.module, environment.id)
    if name is not None and name != SCRIPTED:
        found = EXPERTS[name]
        if found.environment not in (environment.id, family, ANYWHERE):
            raise ConfigError(
                f"expert {name!r} acts in {found.environment!r}, not in {family!r}, "
                "the environment of the task"
            )
        return found
    experts = {EXPERTS[each].environment: EXPERTS[each] for each in reversed(EXPERTS.names())}
    for place in (environment.id, family):
        if place in experts:
            return experts[place]
    raise ConfigError(_no_expert(environment, family))


def expert_name(name: str | None, environment: EnvSpec) -> str | None:
    """The name of the expert that `find_expert` finds; where it finds none, the name as it is."""
    try:
        found = find_expert(name, environment)
    except ConfigError:
        return name
    return next(each for each in EXPERTS.names() if EXPERTS[each] is found)


def _no_expert(environment: EnvSpec, family: str) -> str:
    known = sorted({EXPERTS[each].environment for each in EXPERTS.names()} - {ANYWHERE})
    said = f"no expert acts in {environment.id!r}"
    near = get_close_matches(family, known, n=1, cutoff=0.7)
    if near:
        return f"{said}, and there is one for {near[0]!r}: is one of the two misspelt?"
    listed = f"there are experts for {', '.join(known)}"
    if environment.module is None:
        return f"{said}: {listed}"
    return f"{said}, and importing {environment.module!r} registers none for it; {listed}"


def _import(module: str, environment: str) -> None:
    try:
        importlib.import_module(module)
    except DipoleError as error:
        raise ConfigError(f"importing {module!r}, for {environment!r}: {error}") from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"environment {environment!r} needs {error.name}, which cannot be imported: install "
            "it, or put it where Python finds it (PYTHONPATH)"
        ) from error
    except Exception as error:  # the user's own code
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"importing {module!r}, for {environment!r}, raised {type(error).__name__}: {error} "
            f"({last.filename}, line {last.lineno})"
        ) from error
