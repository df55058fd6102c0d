"""Push-T as a family of environments, and its expert."""

from typing import Any

import gymnasium

from dipole.data.recording.record import Demonstrator
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.experts.action_noise import DisturbanceSpec
from dipole.envs.registry import ENVIRONMENTS, Builder, Environment, Imported

# Pixels: as people stray by hand, and an expert's way back from there.
DISTURBANCE = DisturbanceSpec(drift=3.0, shove=30.0, shove_probability=0.03)


def _load() -> Builder:
    from dipole.envs.pusht.environment import PushT

    return PushT


def _expert(environment: "gymnasium.Env[Any, Any]") -> Demonstrator:
    from dipole.envs.pusht.expert.expert import PushTExpert

    return PushTExpert()


ENVIRONMENTS.add("pusht")(
    Environment(
        Imported(_load),
        distribution="gym-pusht",
        extra="pusht",
        # Transforms begin from the simulator's own numbers, before they are rounded to float32.
        observation={"state": "exact_state", "img": "image"},
        score="max_reward_mean",
    )
)
EXPERTS.add("pusht")(Expert(_expert, "pusht", ("state",), DISTURBANCE))
