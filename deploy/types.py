"""What the parts of deployment exchange: readings in, requests, results, decisions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.window_spec import WindowSpec

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
# What a request says of the chunk it asks for: see chunks/prefix.py; {} where nothing is known.
KnownActions = Mapping[str, Any]


@dataclass(frozen=True)
class Ticket:
    """Which chunk was asked for: its number, the epoch, the time of the newest observation, and
    how many actions had been consumed."""

    chunk_id: int
    epoch: int
    observation_time: float
    consumed: int


@dataclass(frozen=True)
class PolicySpec:
    """What a policy sees, {name: shape of one observation}, and does: size numbers an action.

    inpaints: whether it takes what is known of a chunk (chunks/prefix.py).
    """

    observation: Mapping[str, tuple[int, ...]]
    action_size: int
    window: WindowSpec
    inpaints: bool = False


@dataclass(frozen=True)
class Request:
    """A chunk that is wanted, for an observation {name: [To, *shape]}; known: chunks/prefix.py."""

    ticket: Ticket
    observation: Arrays
    known: KnownActions = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """An answer: {"action": [H, A]}, unchecked, and how long it took; or an error.

    lost: there will be no answer to this request, and nobody is to blame; ask again.
    """

    ticket: Ticket
    answer: Any
    seconds: float
    error: str = ""
    lost: bool = False


@dataclass(frozen=True)
class Decision:
    """What to do until the next one: go to an action [A], or hold, and why.

    following: the action after it, if it is known. measured: where the robot is seen to be [A], in
    the units of an action; None if that is not known.
    """

    action: Floats | None = None
    following: Floats | None = None
    hold: str = ""
    measured: Floats | None = None
