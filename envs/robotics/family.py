"""Adroit's hands and Franka's kitchen as families of environments. They have no experts: their
demonstrations are Minari's (docs/hands_and_kitchen.md)."""

from collections.abc import Sequence
from typing import Any

import gymnasium

from dipole.envs.gymnasium_ids import silence_notice
from dipole.envs.media.headless import prepare_rendering
from dipole.envs.registry import ENVIRONMENTS, Environment

HANDS = ("door", "hammer", "pen", "relocate")
KITCHENS = ("complete", "partial", "mixed", "relay")
KEYS = {"observation": "state"}  # what Minari's datasets call it


def _adroit(
    task: str,
    observation: Sequence[str] = ("state",),
    max_steps: int = 200,
    reward: str = "dense",
    end_at_success: bool = False,
    image_size: int = 96,
    render_size: int = 256,
) -> "gymnasium.Env[Any, Any]":
    prepare_rendering()
    silence_notice()
    from dipole.envs.robotics.adroit import Adroit

    return Adroit(
        task,
        observation,
        max_steps=max_steps,
        reward=reward,
        end_at_success=end_at_success,
        image_size=image_size,
        render_size=render_size,
    )


def _kitchen(
    task: str,
    observation: Sequence[str] = ("state",),
    max_steps: int = 280,
    end_at_success: bool = True,
    image_size: int = 96,
    render_size: int = 256,
) -> "gymnasium.Env[Any, Any]":
    prepare_rendering()
    silence_notice()
    from dipole.envs.robotics.kitchen import Kitchen

    return Kitchen(
        task,
        observation,
        max_steps=max_steps,
        end_at_success=end_at_success,
        image_size=image_size,
        render_size=render_size,
    )


ENVIRONMENTS.add("adroit")(
    Environment(_adroit, "gymnasium-robotics", "robotics", KEYS, tasks=HANDS)
)
ENVIRONMENTS.add("kitchen")(
    Environment(_kitchen, "gymnasium-robotics", "robotics", KEYS, tasks=KITCHENS)
)
