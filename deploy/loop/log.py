"""The log of a run: the logger "dipole.deploy", printed by a thread that is not the control loop's.

Whoever uses the control loop without `printed_log` adds handlers to LOGGER as to any logger; one
that may wait (a terminal, a disk, a network) belongs behind a logging.handlers.QueueHandler.
"""

import contextlib
import logging
import os
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener
from typing import TextIO

LOGGER = logging.getLogger("dipole.deploy")


@contextmanager
def printed_log() -> Iterator["PrintedLog"]:
    """While entered, what LOGGER is told is printed, by a thread of its own, to sys.stdout."""
    log = PrintedLog(sys.stdout)
    before = LOGGER.level, LOGGER.propagate
    LOGGER.addHandler(log.handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        yield log
    finally:
        LOGGER.removeHandler(log.handler)
        LOGGER.setLevel(before[0])
        LOGGER.propagate = before[1]
        log.close()


class PrintedLog:
    """handler: leaves what it is told in a queue. A thread prints it."""

    def __init__(self, stream: TextIO) -> None:
        self._lines: queue.Queue[logging.LogRecord] = queue.Queue()
        self.handler = QueueHandler(self._lines)
        self._listener = QueueListener(self._lines, _Terminal(stream))
        self._listener.start()

    def flush(self) -> None:
        """Wait until all that was logged is printed."""
        self._lines.join()

    def close(self) -> None:
        """Print what is left, and end."""
        self._listener.stop()


class _Terminal(logging.StreamHandler[TextIO]):
    """A terminal that may be closed: from then on nothing is printed, and nothing raised."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError | ValueError):
            super().handleError(record)
            return
        with contextlib.suppress(
            OSError, ValueError
        ):  # else the interpreter's end would fail on it
            stream = self.stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
