"""Fetch as a family of environments, and its expert."""

from typing import Any

import gymnasium

from dipole.data.recording.record import Demonstrator
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.experts.action_noise import DisturbanceSpec
from dipole.envs.gymnasium_ids import silence_notice
from dipole.envs.media.headless import prepare_rendering
from dipole.envs.registry import ENVIRONMENTS, Builder, Environment, Imported

TASKS = ("reach", "push", "pick-and-place", "slide")
# Of the gripper's motion, in shares of 33 mm a step. A puck that was struck cannot be corrected, so
# that slide's expert, which plans its strikes, has none.
DISTURBANCE = DisturbanceSpec(
    drift=0.1, shove=0.5, shove_probability=0.02, shove_steps=2, scale=(1.0, 1.0, 1.0, 0.0)
)
OBSERVATION = ("state", "achieved_goal", "desired_goal")


def _load() -> Builder:
    prepare_rendering()
    silence_notice()
    from dipole.envs.fetch.environment import Fetch

    return Fetch


def _expert(environment: "gymnasium.Env[Any, Any]") -> Demonstrator:
    from dipole.envs.fetch.expert import expert_of
    from dipole.envs.wrapped import offered

    return expert_of(offered(environment, "task"), offered(environment, "foresee"))


ENVIRONMENTS.add("fetch")(
    Environment(Imported(_load), distribution="gymnasium-robotics", extra="robotics", tasks=TASKS)
)
EXPERTS.add("fetch")(Expert(_expert, "fetch", OBSERVATION, DISTURBANCE))
EXPERTS.add("fetch/slide")(Expert(_expert, "fetch/slide", OBSERVATION))
