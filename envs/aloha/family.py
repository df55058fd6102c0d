"""ALOHA's two arms as a family of environments, and their expert."""

from typing import Any

import gymnasium

from dipole.data.recording.record import Demonstrator
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.experts.action_noise import DisturbanceSpec
from dipole.envs.media.headless import prepare_rendering
from dipole.envs.registry import ENVIRONMENTS, Builder, Environment, Imported

TASKS = ("transfer_cube", "insertion")


def _load() -> Builder:
    prepare_rendering()
    from dipole.envs.aloha.environment import Aloha

    return Aloha


def _expert(environment: "gymnasium.Env[Any, Any]") -> Demonstrator:
    from dipole.envs.aloha.expert.expert import AlohaExpert

    return AlohaExpert(environment)


ENVIRONMENTS.add("aloha")(
    Environment(
        Imported(_load),
        "gym-aloha",
        extra="aloha",
        tasks=TASKS,
        seeds=2**32,  # of numpy's RandomState
    )
)
ARM = (1.0,) * 6 + (0.0,)  # a disturbance moves joints, and no gripper: that would drop things
OBSERVATION = ("state", "environment_state")
DRIFT = 0.005  # rad; a peg that trembles by more than its socket leaves it is not pushed in
FINE_DRIFT = 0.002
EXPERTS.add("aloha")(Expert(_expert, "aloha", OBSERVATION, DisturbanceSpec(DRIFT, scale=ARM * 2)))
EXPERTS.add("aloha/insertion")(
    Expert(_expert, "aloha/insertion", OBSERVATION, DisturbanceSpec(FINE_DRIFT, scale=ARM * 2))
)
