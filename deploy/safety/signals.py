"""Signals of a terminal and of service managers: who answers them, and who ignores them.

The process of the control loop answers each of them with a stop. Every process beside it ignores
them, because a terminal sends them to all processes of its group at once.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Ctrl-C, `kill`, a closed terminal, Ctrl-\, Ctrl-Z. Not all of them exist on every system.
STOP = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP")
# What stops a process that reads from, or writes to, a terminal it is not in the foreground of.
BACKGROUND = ("SIGTTIN", "SIGTTOU")


def ignore_terminal_signals(*others: str) -> None:
    """For the main thread of a process beside the control loop: ignore what a terminal sends.

    others: names of further signals to ignore. SIGTERM is not among the terminal's.
    """
    for number in _numbers(*(name for name in STOP if name != "SIGTERM"), *BACKGROUND, *others):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def stop_signals(ask: Callable[[str], None]) -> Iterator[None]:
    """While entered, each signal of STOP calls ask(name of the signal), and nothing else.

    A second SIGINT acts as it did before. BACKGROUND is ignored. Signals that were ignored (SIGHUP
    by nohup) are answered all the same: a robot does not go on because of how its program was
    started. Outside the main thread Python allows no handlers, and nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous: dict[int, Any] = {}

    def answer(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(number, previous[number])
        ask(signal.Signals(number).name)

    background = _numbers(*BACKGROUND)
    for number in _numbers(*STOP, *BACKGROUND):
        # None: the handler is not Python's own; it cannot be set again.
        previous[number] = signal.getsignal(number) or signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in background else answer)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _numbers(*names: str) -> list[int]:
    return [int(getattr(signal, name)) for name in names if hasattr(signal, name)]
