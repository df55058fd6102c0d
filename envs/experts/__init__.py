"""Experts by name: they know how a task is done and produce demonstrations.

An expert is imported when it is made, and with it the simulator that it plans in.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dipole.data.core.registry import Registry
from dipole.data.recording.record import Demonstrator
from dipole.envs.experts.action_noise import DisturbanceSpec


@dataclass(frozen=True)
class Expert:
    """Who shows how a task is done.

    build: Makes one.
    environment: Where it acts.
    observation: What it looks at, and what is recorded.
    disturbance: Of its executed actions, where none is asked for.
    """

    build: Callable[[], Demonstrator]
    environment: str
    observation: tuple[str, ...]
    disturbance: DisturbanceSpec


EXPERTS: Registry[Expert] = Registry("expert")


def _pusht() -> Demonstrator:
    from dipole.envs.pusht.expert.expert import PushTExpert

    return PushTExpert()


def _fork() -> Demonstrator:
    from dipole.envs.fork.expert import ForkExpert

    return ForkExpert()


EXPERTS.add("pusht")(Expert(_pusht, "pusht", ("state",), DisturbanceSpec()))
EXPERTS.add("fork")(
    Expert(
        _fork,
        "fork",
        ("state", "label"),
        DisturbanceSpec(drift=0.0, shove=0.05, shove_probability=0.0, high=1.0),
    )
)
