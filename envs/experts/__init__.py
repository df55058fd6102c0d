"""Experts by name: they know how a task is done and produce demonstrations.

An expert is imported when it is made, and with it the simulator that it plans in.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dipole.data.core.registry import Registry
from dipole.data.recording.record import Demonstrator


@dataclass(frozen=True)
class Expert:
    """build: makes one; environment: where it acts; observation: what it looks at."""

    build: Callable[[], Demonstrator]
    environment: str
    observation: tuple[str, ...]


EXPERTS: Registry[Expert] = Registry("expert")


def _pusht() -> Demonstrator:
    from dipole.envs.pusht.expert.expert import PushTExpert

    return PushTExpert()


EXPERTS.add("pusht")(Expert(_pusht, environment="pusht", observation=("state",)))
