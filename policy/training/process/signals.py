"""Ctrl-C and SIGTERM end a run at the next step, with a checkpoint."""

import signal
import threading
import time
from types import FrameType
from typing import Any


class StopRequest:
    """While entered, the first signal is remembered; the second acts as it always did.

    patience: Seconds after the first in which others are taken for the same: a launcher of several
        processes passes on a signal that they have had from the terminal.
    requested: None, or the signal's name.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, patience: float = 0.0) -> None:
        self.requested: str | None = None
        self.patience = patience
        self._first = 0.0
        self._previous: dict[int, Any] = {}

    @property
    def number(self) -> int:
        """The signal's, or 0."""
        return int(signal.Signals[self.requested]) if self.requested else 0

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python refuses
            self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested is None:
            self.requested, self._first = signal.Signals(number).name, now
        elif now - self._first >= self.patience:
            signal.signal(number, self._previous[number])
            signal.raise_signal(number)
        if not self.patience:
            signal.signal(number, self._previous[number])
