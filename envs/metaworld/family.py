"""MetaWorld as a family of environments, and its expert."""

from typing import Any

import gymnasium

from dipole.data.recording.record import Demonstrator
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.experts.action_noise import DisturbanceSpec
from dipole.envs.media.headless import prepare_rendering
from dipole.envs.metaworld.tasks import SETS, TASKS
from dipole.envs.registry import ENVIRONMENTS, Builder, Environment, Imported

# Below a millimetre a step: with twice as much the scripted policies drop what they hold.
DISTURBANCE = DisturbanceSpec(drift=0.05, memory=0.8, scale=(1.0, 1.0, 1.0, 0.0))


def _load() -> Builder:
    prepare_rendering()
    from dipole.envs.metaworld.environment import MetaWorld

    return MetaWorld


def _expert(environment: "gymnasium.Env[Any, Any]") -> Demonstrator:
    from dipole.envs.metaworld.expert import MetaWorldExpert

    return MetaWorldExpert(environment)


ENVIRONMENTS.add("metaworld")(
    Environment(Imported(_load), distribution="metaworld", extra="metaworld", tasks=(*SETS, *TASKS))
)
EXPERTS.add("metaworld")(
    Expert(
        _expert,
        "metaworld",
        ("state", "instruction"),
        DISTURBANCE,
        # Demonstrations lead into success and do not end at its edge.
        options={"steps_after_success": 20},
    )
)
