"""Records that wait for the disk, bounded in number and in bytes."""

import threading
from collections import Counter, deque
from dataclasses import replace

from dipole.deploy.recording.file_format import Record

OVERHEAD = 1024  # bytes that a record takes beside its arrays


def size_of(record: Record) -> int:
    """Bytes that a record takes while it waits."""
    return OVERHEAD + sum(array.nbytes for array in record.arrays.values())


class BoundedQueue:
    """First in, first out; `put` never waits, and drops what does not fit.

    max_records, max_bytes: How much may wait, the record that is being written included.
    dropped: How many records were dropped, by kind. A record that follows dropped ones says so in
    its `missing`. given_up: Whether the rest was dropped at the end.
    """

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self.dropped: Counter[str] = Counter()
        self.given_up = False
        self._max_records, self._max_bytes = max_records, max_bytes
        self._waiting: deque[Record] = deque()
        self._taken: Record | None = None  # by the writer, not yet done
        self._bytes = 0
        self._missing: Counter[str] = Counter()  # since the last record that was put
        self._closed = False
        self._changed = threading.Condition()

    def has_room(self, size: int) -> bool:
        """Whether a record of `size` bytes would be taken now."""
        return (
            not self._closed
            and len(self._waiting) < self._max_records
            and self._bytes + size <= self._max_bytes
        )

    def put(self, record: Record) -> None:
        """Add a record, or drop it where there is no room."""
        size = size_of(record)
        with self._changed:
            if not self.has_room(size):
                self._drop(record.kind)
                return
            self._waiting.append(replace(record, missing=dict(self._missing)))
            self._missing.clear()
            self._bytes += size
            self._changed.notify()

    def drop(self, kind: str) -> None:
        """Count a record of this kind that was not even made."""
        with self._changed:
            self._drop(kind)

    def get(self) -> Record | None:
        """Wait for the next record; None once the queue is closed and empty."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            self._taken = self._waiting.popleft() if self._waiting else None
            return self._taken

    def done(self, written: bool) -> None:
        """The record that `get` gave is in the file, or is dropped."""
        with self._changed:
            if self._taken is None:  # given up meanwhile, and counted
                return
            self._bytes -= size_of(self._taken)
            if not written:
                self.dropped[self._taken.kind] += 1
            self._taken = None

    def close(self) -> None:
        """Take no more records; `get` gives those that wait, then None."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def give_up(self) -> None:
        """Drop everything that waits, and what is being written."""
        with self._changed:
            self._closed = self.given_up = True
            taken = [] if self._taken is None else [self._taken]
            self.dropped.update(record.kind for record in [*taken, *self._waiting])
            self._waiting.clear()
            self._taken = None
            self._changed.notify()

    def unsaid(self) -> dict[str, int]:
        """Dropped records that no later record tells of."""
        with self._changed:
            return dict(self._missing)

    def _drop(self, kind: str) -> None:
        self.dropped[kind] += 1
        self._missing[kind] += 1
