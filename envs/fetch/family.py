"""Fetch as a family of environments, and its expert."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium

from dipole.data.recording.record import Demonstrator
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.experts.action_noise import DisturbanceSpec
from dipole.envs.fetch.geometry import ABSOLUTE, METRES_PER_ACTION
from dipole.envs.gymnasium_ids import silence_notice
from dipole.envs.media.headless import prepare_rendering
from dipole.envs.registry import ENVIRONMENTS, Builder, Environment, Imported

TASKS = ("reach", "push", "pick-and-place", "slide")
# Of the gripper's motion, in shares of 33 mm a step. A puck that was struck cannot be corrected, so
# that slide's expert, which plans its strikes, has none unless it is asked for.
DISTURBANCE = DisturbanceSpec(
    drift=0.1, shove=0.5, shove_probability=0.02, shove_steps=2, scale=(1.0, 1.0, 1.0, 0.0)
)
IN_SLIDE = replace(DISTURBANCE, drift=0.0, shove=0.0, shove_probability=0.0)
OBSERVATION = ("state", "achieved_goal", "desired_goal")


def _load() -> Builder:
    prepare_rendering()
    silence_notice()
    from dipole.envs.fetch.environment import Fetch

    return Fetch


def _expert(environment: "gymnasium.Env[Any, Any]") -> Demonstrator:
    from dipole.envs.fetch.expert import expert_of
    from dipole.envs.fetch.expert.absolute import AbsoluteExpert
    from dipole.envs.wrapped import offered

    expert = expert_of(offered(environment, "task"), offered(environment, "foresee"))
    return AbsoluteExpert(expert) if offered(environment, "actions") == ABSOLUTE else expert


def _scaled(spec: DisturbanceSpec, options: Mapping[str, Any]) -> DisturbanceSpec:
    """In the unit of the actions: shares of 33 mm, or metres."""
    if options.get("actions") != ABSOLUTE:
        return spec
    drift, shove = METRES_PER_ACTION * spec.drift, METRES_PER_ACTION * spec.shove
    return replace(spec, drift=drift, shove=shove)


ENVIRONMENTS.add("fetch")(
    Environment(Imported(_load), distribution="gymnasium-robotics", extra="robotics", tasks=TASKS)
)
EXPERTS.add("fetch")(Expert(_expert, "fetch", OBSERVATION, partial(_scaled, DISTURBANCE)))
EXPERTS.add("fetch/slide")(Expert(_expert, "fetch/slide", OBSERVATION, partial(_scaled, IN_SLIDE)))
