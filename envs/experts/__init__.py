"""Experts by name: they know how a task is done and produce demonstrations.

An expert is imported when it is made, and with it the simulator that it plans in. Each family
registers its own (pusht/family.py).
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import Registry, nearest
from dipole.data.recording.record import Demonstrator
from dipole.envs.contract import EnvSpec
from dipole.envs.experts.action_noise import DisturbanceSpec

SCRIPTED = "scripted"  # the name of whichever expert an environment has


@dataclass(frozen=True)
class Expert:
    """Who shows how a task is done.

    build: Makes one, for an environment that is made already and that it may look into.
    environment: Where it acts: a family, one task of it, or a gymnasium id.
    observation: The entries of the environment's observation that it looks at. They are recorded,
        beside what the task's policies see.
    disturbance: Of its executed actions, where none is asked for; None: none.
    options: Of the environment that it demonstrates in, where the task does not say others.
    """

    build: Callable[["gymnasium.Env[Any, Any]"], Demonstrator]
    environment: str
    observation: tuple[str, ...]
    disturbance: DisturbanceSpec | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def demonstrating_in(self, environment: EnvSpec) -> EnvSpec:
        """The environment with the expert's options."""
        return replace(environment, options={**self.options, **environment.options})


EXPERTS: Registry[Expert] = Registry("expert")


def find_expert(name: str | None, environment: EnvSpec) -> Expert:
    """The expert of a name, or whichever knows the environment: None, "scripted".

    One of the task goes before one of the family. The module that an environment's id names is
    imported: it may register its own expert. Raises ConfigError where there is none, and for one
    that acts in another environment.
    """
    family = environment.family or environment.id
    if environment.module is not None:
        _import(environment.module, environment.id)
    if name is not None and name != SCRIPTED:
        found = EXPERTS[name]
        if found.environment not in (environment.id, family):
            raise ConfigError(
                f"expert {name!r} acts in {found.environment!r}, not in {family!r}, "
                "the environment of the task"
            )
        return found
    experts = {EXPERTS[each].environment: EXPERTS[each] for each in reversed(EXPERTS.names())}
    for place in (environment.id, family):
        if place in experts:
            return experts[place]
    known = sorted({EXPERTS[each].environment for each in EXPERTS.names()})
    raise ConfigError(
        f"no expert acts in {environment.id!r}{nearest(family, known) or ';'} there are experts "
        f"for {', '.join(known)}"
    )


def _import(module: str, environment: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"environment {environment!r} needs {error.name}, which cannot be imported: install "
            "it, or put it where Python finds it (PYTHONPATH)"
        ) from error
