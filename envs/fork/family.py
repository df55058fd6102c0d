"""Fork as a family of environments, and its expert."""

from collections.abc import Sequence
from typing import Any

import gymnasium

from dipole.data.recording.record import Demonstrator
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.registry import ENVIRONMENTS, Environment


def _build(
    observation: Sequence[str] = ("state", "label"),
    label: str | None = None,
    render_size: int = 256,
    max_steps: int = 48,
) -> "gymnasium.Env[Any, Any]":
    from dipole.envs.fork.environment import Fork

    return Fork(observation, label, render_size, max_steps)


def _expert(environment: "gymnasium.Env[Any, Any]") -> Demonstrator:
    from dipole.envs.fork.expert import ForkExpert

    return ForkExpert()


ENVIRONMENTS.add("fork")(Environment(_build, distribution="dipole"))
EXPERTS.add("fork")(Expert(_expert, "fork", ("state", "label")))
