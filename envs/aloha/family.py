"""ALOHA's two arms as a family of environments, and their expert."""

from collections.abc import Sequence
from typing import Any

import gymnasium

from dipole.data.recording.record import Demonstrator
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.experts.action_noise import DisturbanceSpec
from dipole.envs.media.headless import prepare_rendering
from dipole.envs.registry import ENVIRONMENTS, Environment

TASKS = ("transfer_cube", "insertion")


def _build(
    task: str,
    observation: Sequence[str] = ("state", "environment_state"),
    image_size: int | Sequence[int] = 96,
    fast_rendering: bool = True,
    end_at_success: bool = False,
    render_camera: str = "angle",
    render_size: int = 480,
    max_steps: int | None = None,
    action_repeat: int = 1,
) -> "gymnasium.Env[Any, Any]":
    prepare_rendering()
    from dipole.envs.aloha.environment import Aloha

    return Aloha(
        observation,
        task,
        image_size,
        fast_rendering,
        end_at_success,
        render_camera,
        render_size,
        max_steps,
        action_repeat,
    )


def _expert(environment: "gymnasium.Env[Any, Any]") -> Demonstrator:
    from dipole.envs.aloha.expert.expert import AlohaExpert

    return AlohaExpert(environment)


ENVIRONMENTS.add("aloha")(Environment(_build, "gym-aloha", extra="aloha", tasks=TASKS))
ARM = (1.0,) * 6 + (0.0,)  # a disturbance moves joints, and no gripper: that would drop things
EXPERTS.add("aloha")(
    Expert(_expert, "aloha", ("state", "environment_state"), DisturbanceSpec(scale=ARM * 2))
)
