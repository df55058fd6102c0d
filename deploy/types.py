"""What the parts of deployment exchange: readings in, requests, results, decisions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.units import Units, read_units
from dipole.data.loading.window_spec import WindowSpec

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
# What a request says of the chunk it asks for: see chunks/prefix.py; {} where nothing is known.
KnownActions = Mapping[str, Any]
OTHERS_AGE = 0.3  # seconds: max_observation_age of channels that it does not name
ONLY_DTYPES = ("uint8",)  # of observations that are not converted to float32


@dataclass(frozen=True)
class Ticket:
    """Which chunk was asked for: its number, the epoch, the time of the newest observation, and
    how many actions had been consumed."""

    chunk_id: int
    epoch: int
    observation_time: float
    consumed: int


@dataclass(frozen=True)
class Meaning:
    """What is known of the numbers of an observation or action; what is empty is unknown.

    names: Of a vector's entries, in order.
    units: Of all its numbers, or one for each entry of the last axis.
    dtype: Of numbers that may have no other, as pictures: "uint8".
    """

    names: tuple[str, ...] = ()
    units: Units = ""
    dtype: str = ""

    @classmethod
    def read(cls, shape: tuple[int, ...], values: Mapping[str, Any]) -> "Meaning":
        """From plain values, as another computer or an older release sent them.

        shape: of one observation, or of the action. Raises ValueError for names or units that do
        not fit it.
        """
        names, units = tuple(map(str, values.get("names") or ())), read_units(values.get("units"))
        if names and (len(names),) != shape:
            raise ValueError(f"{len(names)} names for shape {list(shape)}")
        if not isinstance(units, str) and shape[-1:] != (len(units),):
            raise ValueError(f"{len(units)} units for shape {list(shape)}")
        dtype = str(values.get("dtype") or "")
        return cls(names, units, dtype if dtype in ONLY_DTYPES else "")


@dataclass(frozen=True)
class PolicySpec:
    """What a policy sees and does.

    observation: {name: shape of one observation}.
    action_size: Numbers of an action.
    inpaints: Whether it takes what is known of a chunk (chunks/prefix.py).
    fps: Frames per second of the demonstrations it was trained on; None where unknown.
    meaning: {name of an observation, or "action": what is known of its numbers, if anything}.
    max_prefix: Actions of the longest prefix of a chunk that it was trained to go on from; 0: none.
    """

    observation: Mapping[str, tuple[int, ...]]
    action_size: int
    window: WindowSpec
    inpaints: bool = False
    fps: float | None = None
    meaning: Mapping[str, Meaning] = field(default_factory=dict)
    max_prefix: int = 0

    def __post_init__(self) -> None:
        known = {name: entry for name, entry in self.meaning.items() if entry != Meaning()}
        object.__setattr__(self, "meaning", known)

    def meaning_of(self, name: str) -> Meaning:
        """What is known of an observation, or of "action"."""
        return self.meaning.get(name, Meaning())


def read_fps(value: Any) -> float | None:
    """A frame rate as another computer or an older release sent it; raises ValueError."""
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(f"fps is {value!r}, not a positive number")
    return float(value)


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
