"""Before anything moves: a person is asked, and signals end the program as Ctrl-C does."""

import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from dipole.data.core.errors import DipoleError
from dipole.deploy.loop.log import LOGGER, PrintedLog

NOT_CERTIFIED = (
    "This is no certified emergency stop: keep the hardware's within reach, and the controller's "
    "own limits set."
)
LOOK_SECONDS = 0.1  # between two looks whether a signal has come
ENDING = ("SIGTERM", "SIGHUP", "SIGQUIT")  # each would end the process at once


def asked_to_arm(log: PrintedLog) -> bool:
    """Whether a person allows the robot to move; the end of the input (Ctrl-D) is a no.

    log: Is printed before the question.
    Raises DipoleError where there is no terminal.
    """
    if not sys.stdin.isatty():
        raise DipoleError("nobody is here to arm the robot: run it in a terminal, or give arm=now")
    LOGGER.info(NOT_CERTIFIED)
    log.flush()
    print("Type ARM to let the robot move, anything else to end: ", end="", flush=True)
    # input() sleeps through a signal that comes just before it; this looks for one again and again.
    while not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        pass
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(flush=True)
    return answer.strip() == "ARM"


@contextmanager
def interrupting_signals() -> Iterator[None]:
    """While entered, the first signal of ENDING raises KeyboardInterrupt(its name), as SIGINT does.

    So that the robot's stop() and close() are called. Further ones change nothing; one that was
    ignored (SIGHUP by nohup) stays so. Outside the main thread Python allows no handlers, and
    nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    raised: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if not raised:
            raised.append(number)
            raise KeyboardInterrupt(signal.Signals(number).name)

    previous: dict[int, Any] = {}
    for name in ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            # None: the handler is not Python's own; it cannot be set again.
            previous[number] = signal.getsignal(number) or signal.SIG_DFL
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
