"""A slot in shared memory: one process writes, another reads the newest, and neither waits."""

import multiprocessing
from multiprocessing.context import SpawnContext

import numpy as np

from dipole.deploy.limits import Floats

TRIES = 1000


class SharedSlot:
    """A row of `size` numbers, written whole and read whole, or not at all.

    A counter is odd while the row is being written and is compared before and after reading. It can
    be sent to a process when that is spawned. One process at a time may write.
    """

    def __init__(self, size: int, context: SpawnContext | None = None) -> None:
        context = context or multiprocessing.get_context("spawn")
        self._version = context.RawValue("Q", 0)
        self._row = context.RawArray("d", size)

    def write(self, row: Floats) -> None:
        self._version.value += 1
        np.frombuffer(self._row, np.float64)[:] = row
        self._version.value += 1

    def read(self) -> tuple[int, Floats] | None:
        """(version, row), the same version for the same row; None before the first, or where the
        writer stopped in the middle of a row."""
        for _ in range(TRIES):
            version = int(self._version.value)
            if version % 2 == 0:
                row = np.array(np.frombuffer(self._row, np.float64))
                if self._version.value == version:
                    return (version, row) if version else None
        return None
