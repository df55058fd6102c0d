"""Runs that end once they have acted: their seconds are only the bound of a hang."""

import threading
import time

from dipole.deploy.loop import run as module

LONG = 60.0  # seconds of a run, which none of these takes


def stop_after(loop, actions):
    """Have a loop stop once it has acted so often, however long that takes."""

    def watch():
        while loop.report.counts["actions"] < actions and not loop.states.ended:
            time.sleep(0.005)
        loop.request_stop("enough")

    threading.Thread(target=watch, daemon=True).start()


def end_long_runs_after(monkeypatch, actions):
    """The same of every run of `run_policy` that is given LONG seconds."""
    run = module.run_in_thread

    def run_in_thread(loop, seconds):
        if seconds == LONG:
            stop_after(loop, actions)
        return run(loop, seconds)

    monkeypatch.setattr(module, "run_in_thread", run_in_thread)
