"""A slot in shared memory: one process writes, another reads the newest, and neither waits."""

import multiprocessing
from multiprocessing.context import SpawnContext

import numpy as np

from dipole.deploy.types import Floats

TRIES = 1000


class SharedSlot:
    """A row of `size` numbers, always read whole.

    There are two rows. The counter says how many were written, and the newest lies where it is even
    or odd; the next is written over the other, so that a writer who is slow, or was killed in the
    middle, leaves the newest as it is. It can be sent to a process when that is spawned. One
    process at a time may write.
    """

    def __init__(self, size: int, context: SpawnContext | None = None) -> None:
        context = context or multiprocessing.get_context("spawn")
        self._version = context.RawValue("Q", 0)
        self._rows = (context.RawArray("d", size), context.RawArray("d", size))

    def write(self, row: Floats) -> None:
        following = int(self._version.value) + 1
        self._row(following)[:] = row
        self._version.value = following

    def read(self) -> tuple[int, Floats] | None:
        """(version, row), the same version for the same row; None before the first."""
        for _ in range(TRIES):
            version = int(self._version.value)
            if not version:
                return None
            row = self._row(version).copy()
            if self._version.value == version:  # or its place may be written to by now
                return version, row
        return None

    def _row(self, version: int) -> Floats:
        return np.frombuffer(self._rows[version % 2], np.float64)
