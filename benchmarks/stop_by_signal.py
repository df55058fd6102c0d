"""How long a robot goes on moving when its terminal is closed, or one of its processes is killed.

    python benchmarks/stop_by_signal.py --repeat 20 --json stop_by_signal.json
    python benchmarks/stop_by_signal.py --repeat 1 --events hangup           # to see that it works

Each trial is a whole run (run_policy: loop, inference and watchdog, each a process) on a terminal
of its own (a pty). The robot is a cart that is commanded velocities: it drives on for ever unless
somebody stops it. Every command, and every call of its stop() and of its stopper(), is written to
shared memory with its time; from these the cart's speed is computed at 1 kHz. A trial ends well if
the cart is at rest within the bound, was commanded nothing after a stop, and no process is left.
"""

import argparse
import contextlib
import json
import os
import platform
import pty
import random
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dipole.benchmarks.stopped_cart import (
    ACCELERATION,
    BRAKES,
    CRUISE,
    JERK,
    ROWS,
    SPEED,
    Terms,
    program,
    speeds,
)

BUSY_SECONDS = 0.1  # by which an operating system may run a process late
LONGEST_SECONDS = 20.0  # that a trial is watched after its event


@dataclass(frozen=True)
class Trial:
    """What came of one event.

    seconds: From the event until the cart was at rest for good; infinite if it never was.
    stopped_by: "loop", "watchdog", "both" or "nobody".
    late_commands: Commands after stop() had returned or the stopper had been called.
    state: Of the report; "" without one.
    left: Processes that were still there at the end.
    """

    event: str
    seconds: float
    bound: float
    stopped_by: str
    late_commands: int
    state: str
    reason: str
    left: int

    @property
    def well(self) -> bool:
        return self.seconds <= self.bound and not self.late_commands and not self.left


class NoTrialError(RuntimeError):
    """There was nothing to measure."""


# The events ---------------------------------------------------------------------------------------


class Terminal:
    """The program on a pty, whose foreground processes it and its children are."""

    def __init__(self, folder: Path, terms: Terms) -> None:
        self.folder = folder
        self.said = b""
        np.memmap(folder / "commands", np.float64, "w+", shape=(ROWS, 3)).flush()
        words = [str(folder), str(terms.call_timeout), str(terms.watchdog)]
        self.pid, self._master = pty.fork()
        if not self.pid:
            os.execv(sys.executable, [sys.executable, __file__, "--program", *words])
        self.status: int | None = None

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def hang_up(self) -> None:
        os.close(self._master)
        self._master = -1

    def ended(self) -> bool:
        """Whether the program has; reads what it said."""
        with contextlib.suppress(OSError):
            while self._master >= 0 and select.select([self._master], [], [], 0)[0]:
                self.said += os.read(self._master, 4096)
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def children(self) -> list[int]:
        """The program's processes: inference and watchdog, and whatever Python adds."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    @property
    def inference(self) -> int:
        return int((self.folder / "inference").read_text())

    @property
    def watchdog(self) -> int:
        """The child that leads a session of its own."""
        return next(pid for pid in self.children() if os.getsid(pid) == pid)

    def close(self) -> None:
        """Kill what is left."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self._master >= 0:
            os.close(self._master)


EVENTS: dict[str, Callable[[Terminal], None]] = {
    "terminal closed": Terminal.hang_up,
    "Ctrl-\\": lambda terminal: terminal.press(b"\x1c"),
    "Ctrl-Z": lambda terminal: terminal.press(b"\x1a"),
    "Ctrl-C": lambda terminal: terminal.press(b"\x03"),
    "SIGTERM": lambda terminal: os.kill(terminal.pid, signal.SIGTERM),
    "kill -9 loop": lambda terminal: os.kill(terminal.pid, signal.SIGKILL),
    "kill -9 inference": lambda terminal: os.kill(terminal.inference, signal.SIGKILL),
    "kill -9 watchdog": lambda terminal: os.kill(terminal.watchdog, signal.SIGKILL),
    "kill -STOP loop": lambda terminal: os.kill(terminal.pid, signal.SIGSTOP),
}


def bound(event: str, terms: Terms) -> float:
    """Seconds that docs/deploy.md promises for this robot: noticing, braking, a busy computer."""
    loop = terms.loop.resolved()
    ramp = SPEED / ACCELERATION + ACCELERATION / JERK  # of the loop's braking, from full speed
    own = SPEED / BRAKES  # of the cart's own, which counts where there is no ramp
    look = min(0.02, terms.watchdog / 10)
    noticed = {
        "kill -9 loop": look + own,
        "kill -STOP loop": terms.watchdog + look + own,
        "kill -9 inference": loop.dt + ramp,
    }
    return noticed.get(event, 2 * loop.period + ramp) + BUSY_SECONDS


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def trial(event: str, terms: Terms, folder: Path) -> Trial:
    """One run, one event, and what came of it. Raises NoTrialError if it ended before the event."""
    terminal = Terminal(folder, terms)
    rows = np.memmap(folder / "commands", np.float64, "r", shape=(ROWS, 3))

    def cruising() -> bool:
        return terminal.ended() or bool((rows[:, 1] > 0.999 * CRUISE).any())

    try:
        if not wait_until(cruising, 120.0) or terminal.ended():
            raise NoTrialError(f"the run did not begin: {terminal.said.decode()}")
        time.sleep(random.uniform(0.0, 0.3))
        processes = [terminal.pid, *terminal.children()]
        began = time.monotonic()
        EVENTS[event](terminal)
        wait_until(lambda: _over(terminal, event), LONGEST_SECONDS)
        if event == "kill -STOP loop":
            os.kill(terminal.pid, signal.SIGCONT)
            wait_until(terminal.ended, LONGEST_SECONDS)
        wait_until(lambda: not any(map(_alive, processes)), 30.0)
        left = sum(map(_alive, processes))
    finally:
        terminal.close()
    return _judged(event, terms, folder, began, left)


def _over(terminal: Terminal, event: str) -> bool:
    """The loop has ended, or if it cannot say so, the watchdog has stopped the cart."""
    if event in ("kill -9 loop", "kill -STOP loop"):
        terminal.ended()
        return (terminal.folder / "stopped_by_watchdog").exists()
    return terminal.ended()


def _judged(event: str, terms: Terms, folder: Path, began: float, left: int) -> Trial:
    rows = np.fromfile(folder / "commands").reshape(ROWS, 3)
    commands = rows[rows[:, 0] > 0]
    stops = {who: _times(folder / f"stopped_by_{who}") for who in ("loop", "watchdog")}
    stopped = min((times[0] for times in stops.values() if times), default=np.inf)
    until = time.monotonic() + SPEED / BRAKES + 0.1  # so that it has come to rest if it was stopped
    if stopped < began:
        raise NoTrialError("the run ended by itself, before its event")
    times, speed = speeds(commands, stopped, until)
    moving = np.flatnonzero(speed > 0)
    rest = np.inf if moving[-1] == len(times) - 1 else times[moving[-1] + 1] - began
    report = folder / "report.json"
    told = json.loads(report.read_text()) if report.exists() else {"state": "", "reason": ""}
    who = [who for who, times in stops.items() if times]
    return Trial(
        event,
        max(0.0, float(rest)),
        bound(event, terms),
        {0: "nobody", 1: who[0] if who else "", 2: "both"}[len(who)],
        int((commands[:, 0] > stopped).sum()),
        told["state"],
        told["reason"],
        left,
    )


def _times(path: Path) -> list[float]:
    return [float(line) for line in path.read_text().split()] if path.exists() else []


def _alive(pid: int) -> bool:
    """Whether a process exists and is more than an entry that nobody has asked for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# The table ----------------------------------------------------------------------------------------


def run_trials(event: str, repeat: int, terms: Terms) -> list[Trial]:
    """So many trials; a run that a busy computer ended before its event is told, and repeated."""
    found: list[Trial] = []
    for _ in range(3 * repeat):
        if len(found) == repeat:
            break
        shared = tempfile.TemporaryDirectory(dir=_shared_memory(), ignore_cleanup_errors=True)
        with shared as folder:
            try:
                found.append(trial(event, terms, Path(folder)))
                if not found[-1].well:
                    print(found[-1], file=sys.stderr, flush=True)
            except NoTrialError as error:
                print(error, file=sys.stderr, flush=True)
    return found


def _shared_memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def row(event: str, trials: Sequence[Trial]) -> str:
    seconds = [t.seconds for t in trials]
    who = ", ".join(sorted({t.stopped_by for t in trials}))
    states = ", ".join(sorted({t.state or "no report" for t in trials}))
    return (
        f"| {event} | {sum(t.well for t in trials)} of {len(trials)} | {np.median(seconds):.2f} "
        f"| {max(seconds):.2f} | {trials[0].bound:.2f} | {who} | {states} "
        f"| {sum(t.late_commands for t in trials)} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=20, help="trials of each event [20]")
    parser.add_argument("--events", nargs="+", choices=list(EVENTS), default=list(EVENTS))
    parser.add_argument("--call-timeout", type=float, default=Terms.call_timeout)
    parser.add_argument("--watchdog", type=float, default=Terms.watchdog)
    parser.add_argument("--json", type=Path, help="write each trial here")
    parser.add_argument("--program", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.program:
        folder, call_timeout, watchdog = chosen.program
        program(Path(folder), Terms(float(call_timeout), float(watchdog)))
        return 0
    terms = Terms(chosen.call_timeout, chosen.watchdog)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {terms}\n")
    print("| event | at rest in time | median, s | longest, s | bound, s | stopped by | ended | "
          "commands after |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    found = []
    for event in chosen.events:
        trials = run_trials(event, chosen.repeat, terms)
        print(row(event, trials), flush=True)
        found += trials
        if chosen.json:
            chosen.json.write_text(json.dumps([asdict(t) for t in found], indent=1) + "\n")
    return 0 if all(t.well for t in found) else 1


if __name__ == "__main__":
    sys.exit(main())
