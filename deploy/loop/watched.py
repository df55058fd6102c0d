"""Running a control loop in a program: in a thread of its own, with signals."""

import gc
import threading

from dipole.deploy.loop.control_loop import ControlLoop
from dipole.deploy.loop.report import Report
from dipole.deploy.safety.signals import stop_signals

WAIT_SECONDS = 0.1  # a signal is answered at once on Linux, and after this wait anywhere
JOIN_SECONDS = 2.0


def run_watched(loop: ControlLoop, seconds: float | None = None) -> Report:
    """Run an armed loop and return its report, also if a part of it never returns.

    A signal of a terminal, and SIGTERM, ask the loop to stop; a second SIGINT acts as it always
    did.
    """
    with stop_signals(loop.request_stop):
        return run_in_thread(loop, seconds)


def run_in_thread(loop: ControlLoop, seconds: float | None = None) -> Report:
    """As run_watched, for a caller who answers signals."""
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
    try:
        thread.start()
        while not loop.wait(WAIT_SECONDS):
            pass
    except BaseException as error:  # a second SIGINT: it ends the program, and not the braking
        name = type(error).__name__
        try:
            loop.request_stop(name)
            loop.wait(loop.stopping_seconds)
        finally:  # it did not end, or there was a third: without braking
            loop.fault(name)
        raise
    finally:
        gc.unfreeze()
    loop.supervisor.stopping(JOIN_SECONDS)  # the robot was told to stop: no more heartbeats
    thread.join(JOIN_SECONDS)
    if problems:
        raise problems[0]
    if thread.is_alive():
        loop.report.notes.append("the control thread is still stuck in a part of its slot")
    return loop.report
