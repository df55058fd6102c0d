"""Fork as a family of environments, and its expert."""

from typing import Any

import gymnasium

from dipole.data.recording.record import Demonstrator
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.registry import ENVIRONMENTS, Builder, Environment, Imported


def _load() -> Builder:
    from dipole.envs.fork.environment import Fork

    return Fork


def _expert(environment: "gymnasium.Env[Any, Any]") -> Demonstrator:
    from dipole.envs.fork.expert import ForkExpert

    return ForkExpert()


ENVIRONMENTS.add("fork")(Environment(Imported(_load), distribution="dipole"))
EXPERTS.add("fork")(Expert(_expert, "fork", ("state", "label")))
