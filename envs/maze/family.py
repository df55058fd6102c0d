"""PointMaze as a family of environments, and its expert."""

from collections.abc import Sequence
from typing import Any

import gymnasium

from dipole.data.recording.record import Demonstrator
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.experts.action_noise import DisturbanceSpec
from dipole.envs.gymnasium_ids import silence_notice
from dipole.envs.media.headless import prepare_rendering
from dipole.envs.registry import ENVIRONMENTS, Environment

# Metres. Targets are pushed a little to the side, for a tenth of a second now and then.
DISTURBANCE = DisturbanceSpec(drift=0.01, shove=0.1, shove_probability=0.02)


def _build(
    task: str,
    observation: Sequence[str] = ("state", "position", "goal"),
    control: str = "position",
    simulator_steps: int | None = None,
    max_steps: int | None = None,
    end_at_success: bool = False,
    reset_target: bool = False,
    render_size: int = 256,
) -> "gymnasium.Env[Any, Any]":
    prepare_rendering()  # of other families too: MuJoCo reads it when it is imported
    silence_notice()
    from dipole.envs.maze.environment import PointMaze

    return PointMaze(
        task,
        observation,
        control,
        simulator_steps,
        max_steps,
        end_at_success,
        reset_target,
        render_size,
    )


def _expert(environment: "gymnasium.Env[Any, Any]") -> Demonstrator:
    from dipole.envs.maze.expert import MazeExpert

    return MazeExpert(environment)


ENVIRONMENTS.add("maze")(
    Environment(
        _build,
        distribution="gymnasium-robotics",
        extra="robotics",
        tasks=("umaze", "open", "medium", "large"),
    )
)
EXPERTS.add("maze")(Expert(_expert, "maze", ("state", "position", "goal"), DISTURBANCE))
