"""Checks of what was recorded, episode by episode: what a person should look at before training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dipole.data.core.units import each_unit
from dipole.data.inspection.findings import frame_text
from dipole.data.store.lazy_array import LazyArray
from dipole.data.store.schema import FrameSchema
from dipole.data.transforms.idle import CLOCKS, is_measured

MOST_NUMBERS = 4096  # of a frame that is looked at number by number


@dataclass(frozen=True)
class Key:
    """One array of numbers.

    names: Of its columns, empty where unknown. units: Of each column. low, high: [columns], over
    the whole dataset.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray

    @property
    def is_clock(self) -> bool:
        return self.name.rsplit(".", 1)[-1].lower() in CLOCKS

    @property
    def moves(self) -> bool:
        """Whether its numbers say if something moves."""
        return self.kind in ("state", "action") and is_measured(self.name)


@dataclass(frozen=True)
class Recording:
    """The numbers of a dataset.

    keys: What `episode` gives of each. ends: of the episodes, exclusive. fps: frames a second,
    None where unknown. repeats: for each camera runs of frames [first, last] that look the same.
    """

    keys: Mapping[str, Key]
    ends: np.ndarray
    fps: float | None
    repeats: Mapping[str, Sequence[tuple[int, int]]]

    def frame(self, number: int) -> str:
        """A frame of the dataset for a person."""
        return frame_text(number, self.ends)

    def seconds(self, frames: int) -> str:
        """A number of frames for a person."""
        return f"{frames} frames" if self.fps is None else f"{frames / self.fps:.1f} s"


class Check(Protocol):
    """Looks at one episode after another, and says at the end what is odd."""

    def add(self, start: int, numbers: Mapping[str, np.ndarray]) -> None:
        """An episode that begins at frame `start` of the dataset: float64 [n, columns] by key."""

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Where, and what: see Finding."""


def key_of(
    name: str, array: LazyArray, schema: FrameSchema | None, low: np.ndarray, high: np.ndarray
) -> Key:
    """schema: what the dataset says of the key; low, high: extremes of its columns."""
    schema = schema or FrameSchema()
    shape = tuple(array.shape[1:]) or (1,)
    columns = int(np.prod(shape))
    fits = isinstance(schema.units, str) or len(schema.units) == shape[-1]
    units = each_unit(schema.units if fits else "", shape[-1])
    return Key(
        name,
        schema.kind or ("action" if name == "action" else "state"),
        shape,
        schema.names if len(schema.names) == columns else (),
        units * (columns // shape[-1]),
        low,
        high,
    )


def run_checks(
    recording: Recording, arrays: Mapping[str, LazyArray], checks: Sequence[Check]
) -> Iterator[tuple[str, str]]:
    """All warnings of the checks; each episode is read once."""
    start = 0
    for stop in recording.ends.tolist():
        numbers = {
            key: arrays[key].read(start, stop).reshape(stop - start, -1).astype(np.float64)
            for key in recording.keys
        }
        for check in checks:
            check.add(start, numbers)
        start = stop
    for check in checks:
        yield from check.warnings()
