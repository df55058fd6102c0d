"""Adroit's hands and Franka's kitchen as families of environments. They have no experts: their
demonstrations are Minari's (docs/hands_and_kitchen.md)."""

from dipole.envs.gymnasium_ids import silence_notice
from dipole.envs.media.headless import prepare_rendering
from dipole.envs.registry import ENVIRONMENTS, Builder, Environment, Imported

HANDS = ("door", "hammer", "pen", "relocate")
KITCHENS = ("complete", "partial", "mixed", "relay")
KEYS = {"observation": "state"}  # what Minari's datasets call it


def _adroit() -> Builder:
    prepare_rendering()
    silence_notice()
    from dipole.envs.robotics.adroit import Adroit

    return Adroit


def _kitchen() -> Builder:
    prepare_rendering()
    silence_notice()
    from dipole.envs.robotics.kitchen import Kitchen

    return Kitchen


ENVIRONMENTS.add("adroit")(
    Environment(Imported(_adroit), "gymnasium-robotics", "robotics", KEYS, tasks=HANDS)
)
ENVIRONMENTS.add("kitchen")(
    Environment(Imported(_kitchen), "gymnasium-robotics", "robotics", KEYS, tasks=KITCHENS)
)
