"""Robosuite as a family of environments, in an interpreter of its own, and its expert."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium

from dipole.data.core.errors import ConfigError
from dipole.data.recording.record import Demonstrator
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.registry import ENVIRONMENTS, Environment
from dipole.envs.wrapped import offered

TASKS = ("lift", "can", "milk", "square", "round", "stack", "door", "tool_hang", "transport")
INSTALL = "robosuite==1.5.2 mujoco<3.9 gymnasium msgpack"  # robosuite pins numpy < 2


def _build(
    task: str,
    observation: Sequence[str] = ("state",),
    actions: str = "delta",
    image_size: int = 84,
    render_camera: str = "agentview",
    render_size: int = 256,
    max_steps: int | None = None,
    end_at_success: bool = True,
    reward_shaping: bool = False,
    hard_reset: bool = False,
) -> "gymnasium.Env[Any, Any]":
    """Its parameters are the options of `environment.py`, which is made elsewhere."""
    from dipole.envs.interpreter.process import pip

    raise ConfigError(
        f"environment 'robosuite/{task}' runs in an interpreter of its own, since robosuite needs "
        "numpy < 2. Make one by: python3 -m venv robosuite_env && "
        f"{pip('robosuite_env/bin/python', *INSTALL.split())}; and name it: "
        "environment.python=robosuite_env/bin/python (docs/robosuite.md)"
    )


def _expert(environment: "gymnasium.Env[Any, Any]") -> Demonstrator:
    from dipole.envs.robosuite.expert import RobosuiteExpert

    options = offered(environment, "options") or {}
    return RobosuiteExpert(offered(environment, "task"), options.get("actions", "delta"))


ENVIRONMENTS.add("robosuite")(
    Environment(
        _build,
        distribution="robosuite",
        observation={
            "agentview_image": "agentview",
            "robot0_eye_in_hand_image": "robot0_eye_in_hand",
        },
        tasks=TASKS,
        standalone=str(Path(__file__).with_name("environment.py")),
        install=INSTALL,
    )
)
EXPERTS.add("robosuite")(Expert(_expert, "robosuite", ("state",)))
