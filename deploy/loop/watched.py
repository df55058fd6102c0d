"""Running a control loop in a program: in a thread, watched from the main one, with signals."""

import gc
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from dipole.deploy.loop.control_loop import ControlLoop
from dipole.deploy.loop.report import Report

WATCH_SECONDS = 0.02
JOIN_SECONDS = 2.0


def run_watched(loop: ControlLoop, seconds: float | None = None) -> Report:
    """Run an armed loop and return its report, also where a call of the robot never returns.

    SIGINT and SIGTERM ask the loop to stop; a second one acts as it always did. A call of the robot
    that blocks for longer than call_timeout is a fault, within WATCH_SECONDS.
    """
    problems: list[BaseException] = []

    def run() -> None:
        try:
            loop.run(seconds)
        except BaseException as error:  # raised again below, in the caller's thread
            problems.append(error)
            loop.fault(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=run, daemon=True, name="dipole-control")
    gc.collect()
    gc.freeze()  # what there is now is never garbage: collections during the run stay short
    with _signals(loop):
        thread.start()
        while not loop.wait(WATCH_SECONDS):
            _watch_call(loop)
        thread.join(JOIN_SECONDS)
    gc.unfreeze()
    if problems:
        raise problems[0]
    if thread.is_alive():
        loop.report.notes.append("the control thread is still stuck in a call of the robot")
    return loop.report


def _watch_call(loop: ControlLoop) -> None:
    call = loop.supervisor.call
    if call is None:
        return
    name, started = call
    took = loop.clock.now() - started
    if took > loop.supervisor.call_timeout:
        loop.fault(f"the robot's {name}() has not returned for {took:.2f} s (call_timeout)")


@contextmanager
def _signals(loop: ControlLoop) -> Iterator[None]:
    """While entered, SIGINT and SIGTERM ask the loop to stop."""
    previous: dict[int, Any] = {}

    def ask(number: int, _frame: FrameType | None) -> None:
        loop.request_stop(signal.Signals(number).name)
        signal.signal(number, previous[number])

    if threading.current_thread() is threading.main_thread():  # elsewhere Python refuses
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            previous[number] = signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
