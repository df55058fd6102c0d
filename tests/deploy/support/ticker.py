"""How late this machine runs what is due: measured beside a test, so that no loop is blamed."""

import statistics
import threading
import time

PERIOD = 0.01


class Ticker:
    """A thread that wakes every 10 ms and does nothing else; lateness: of each time, in seconds."""

    def __init__(self):
        self.lateness = [0.0]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _tick(self):
        over = False
        while not over:
            due = time.monotonic() + PERIOD
            over = self._over.wait(PERIOD)
            self.lateness.append(0.0 if over else time.monotonic() - due)

    @property
    def longest(self):
        return max(self.lateness)

    @property
    def median(self):
        return statistics.median(self.lateness)

    @property
    def slots(self):
        """How many of 10 ms the machine took from whoever waited for the next one."""
        return sum(late // PERIOD for late in self.lateness)
