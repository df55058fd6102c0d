"""A slot in shared memory: one process writes, another reads the newest, and neither waits."""

import multiprocessing
import zlib
from multiprocessing.context import SpawnContext

import numpy as np

from dipole.deploy.types import Floats

TRIES = 100
HEADER = 2  # numbers before a row: which it is, and the checksum of its values


class SharedSlot:
    """A row of `size` numbers, always read whole.

    There are two rows. The counter says how many were written, and the newest lies where it is even
    or odd; the next is written over the other, so that a writer who is slow, or was killed in the
    middle, leaves the newest as it is. Processors may make the counter visible before the row: each
    row carries its number and a checksum, and is read again until these agree.

    It can be sent to a process when that is spawned. One process at a time may write.
    """

    def __init__(self, size: int, context: SpawnContext | None = None) -> None:
        context = context or multiprocessing.get_context("spawn")
        self._version = context.RawValue("Q", 0)
        self._rows = tuple(context.RawArray("d", HEADER + size) for _ in range(2))

    def write(self, row: Floats) -> None:
        following = int(self._version.value) + 1
        place = self._row(following)
        place[HEADER:] = row
        place[:HEADER] = following, _checksum(place[HEADER:])
        self._version.value = following

    def read(self) -> tuple[int, Floats] | None:
        """(version, row), the same version for the same row; None before the first."""
        for _ in range(TRIES):
            version = int(self._version.value)
            if not version:
                return None
            found = self._row(version).copy()
            row = found[HEADER:]
            if found[0] == version and found[1] == _checksum(row):
                return version, row
        return None

    def _row(self, version: int) -> Floats:
        return np.frombuffer(self._rows[version % 2], np.float64)


def _checksum(row: Floats) -> int:
    return zlib.crc32(row.data)
