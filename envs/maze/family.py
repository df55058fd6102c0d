"""PointMaze as a family of environments, and its expert."""

from typing import Any

import gymnasium

from dipole.data.recording.record import Demonstrator
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.experts.action_noise import DisturbanceSpec
from dipole.envs.gymnasium_ids import silence_notice
from dipole.envs.media.headless import prepare_rendering
from dipole.envs.registry import ENVIRONMENTS, Builder, Environment, Imported

# Metres. Targets are pushed a little to the side, for a tenth of a second now and then.
DISTURBANCE = DisturbanceSpec(drift=0.01, shove=0.1, shove_probability=0.02)


def _load() -> Builder:
    prepare_rendering()  # of other families too: MuJoCo reads it when it is imported
    silence_notice()
    from dipole.envs.maze.environment import PointMaze

    return PointMaze


def _expert(environment: "gymnasium.Env[Any, Any]") -> Demonstrator:
    from dipole.envs.maze.expert import MazeExpert

    return MazeExpert(environment)


ENVIRONMENTS.add("maze")(
    Environment(
        Imported(_load),
        distribution="gymnasium-robotics",
        extra="robotics",
        tasks=("umaze", "open", "medium", "large"),
    )
)
EXPERTS.add("maze")(Expert(_expert, "maze", ("state", "position", "goal"), DISTURBANCE))
