"""Which process does not come, and what it is doing: asked when others have waited for too long.

A thread of each process waits, without computing, until somebody asks, and answers where its
process is. One that is stopped or has ended does not answer.
"""

import sys
import threading
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import distributed

ANSWER = timedelta(seconds=3)
FOREVER = timedelta(days=365)
ASKED = "asked"


class Whereabouts:
    """waits_in: The number of the round that this process waits in, None between rounds."""

    def __init__(self, host: str, port: int, prefix: str, rank: int, count: int) -> None:
        self.address, self.prefix = (host, port), prefix
        self.rank, self.count = rank, count
        self.waits_in: int | None = None
        self._main = threading.main_thread().ident
        threading.Thread(target=self._answer, name="whereabouts", daemon=True).start()

    def of_others(self, number: int) -> list[str]:
        """A line for each process that does not wait in round `number`."""
        try:
            store = self._store()
            store.set(ASKED, "1")
        except Exception:  # whoever held the store has ended
            return []
        found = []
        for rank in range(self.count):
            if rank == self.rank:
                continue
            try:
                store.wait([f"at/{rank}"], ANSWER)
                answer = store.get(f"at/{rank}").decode()
            except Exception:
                answer = "does not answer: it was killed, stopped, or its machine is gone"
            if answer != f"waits in {number}":
                found.append(f"  rank {rank} {answer}")
        return found

    def leave_error(self, text: str) -> None:
        """Say what this process failed with to those that find it gone."""
        try:
            self._store().set(f"error/{self.rank}", text)
        except Exception:  # whoever held the store has ended
            return

    def errors(self) -> dict[int, str]:
        """What others have left, by rank."""
        try:
            store = self._store()
            ranks = [r for r in range(self.count) if r != self.rank and store.check([f"error/{r}"])]
            return {rank: store.get(f"error/{rank}").decode() for rank in ranks}
        except Exception:  # whoever held the store has ended
            return {}

    def _answer(self) -> None:
        try:
            store = self._store()
            store.wait([ASKED], FOREVER)
            store.set(f"at/{self.rank}", self._where())
        except Exception:  # the store has ended, and so has the run
            return

    def _where(self) -> str:
        if self.waits_in is not None:
            return f"waits in {self.waits_in}"
        frame = sys._current_frames().get(self._main or 0)
        if frame is None:
            return "is ending"
        last = traceback.extract_stack(frame)[-3:]
        calls = " > ".join(f"{Path(s.filename).name}:{s.lineno} {s.name}" for s in last)
        return f"has not come: it is at {calls}"

    def _store(self) -> Any:
        """A connection of its own: one that waits is closed to others."""
        host, port = self.address
        own: Any = distributed
        store = own.TCPStore(host, port, is_master=False, timeout=ANSWER)
        return own.PrefixStore(self.prefix, store)
