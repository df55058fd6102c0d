"""Stoppers for the watchdog's process, and programs that own a watchdog: importable there."""

import os
import sys
import time
from functools import partial
from pathlib import Path

from dipole.deploy.safety.watchdog import Watchdog


def touch(path):
    Path(path).write_text(f"{time.monotonic()}")


def count(path):
    """Add one to the number of calls in a file, and return it."""
    with Path(path).open("a") as file:
        file.write("x")
    return Path(path).stat().st_size


def fail_twice(folder):
    if count(folder / "calls") < 3:
        raise OSError("no route to the robot")
    touch(folder / "stopped")


def block_once(folder):
    if count(folder / "calls") == 1:
        time.sleep(60)
    touch(folder / "stopped")


def raise_flag(flag):
    flag.value = 1


class BrokenStopper:
    """It can be sent, and not be received."""

    def __reduce__(self):
        return receive, ()


def receive():
    raise ImportError("no module named their_driver")


def main(folder, then):
    """A program that ends, or is killed, with a watchdog that nobody closed."""
    Watchdog(partial(touch, Path(folder) / "stopped"), timeout=60.0)
    touch(Path(folder) / "watching")
    if then == "exit":
        return
    if then == "die":
        os._exit(3)
    time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
