"""MetaWorld as a family of environments, and its expert."""

from collections.abc import Sequence
from typing import Any

import gymnasium

from dipole.data.recording.record import Demonstrator
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.experts.action_noise import DisturbanceSpec
from dipole.envs.media.headless import prepare_rendering
from dipole.envs.metaworld.tasks import SETS, TASKS
from dipole.envs.registry import ENVIRONMENTS, Environment

# Below a millimetre a step: with twice as much the scripted policies drop what they hold.
DISTURBANCE = DisturbanceSpec(drift=0.05, memory=0.8, scale=(1.0, 1.0, 1.0, 0.0))


def _build(
    task: str,
    observation: Sequence[str] | None = None,
    image_size: int = 96,
    render_size: int = 256,
    render_camera: str = "corner2",
    max_steps: int = 500,
    end_at_success: bool = True,
    steps_after_success: int = 0,
) -> "gymnasium.Env[Any, Any]":
    prepare_rendering()
    from dipole.envs.metaworld.environment import MetaWorld

    return MetaWorld(
        task,
        observation,
        image_size=image_size,
        render_size=render_size,
        render_camera=render_camera,
        max_steps=max_steps,
        end_at_success=end_at_success,
        steps_after_success=steps_after_success,
    )


def _expert(environment: "gymnasium.Env[Any, Any]") -> Demonstrator:
    from dipole.envs.metaworld.expert import MetaWorldExpert

    return MetaWorldExpert(environment)


ENVIRONMENTS.add("metaworld")(
    Environment(_build, distribution="metaworld", extra="metaworld", tasks=(*SETS, *TASKS))
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
