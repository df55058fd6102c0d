"""What a run shows while it trains."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """A bar on a terminal, a line per report elsewhere; both on standard error.

    quiet: Neither, for all but the first of several processes.
    """

    def __init__(self, steps: int, done: int, quiet: bool = False) -> None:
        self.steps, self.first, self.started = steps, done, time.monotonic()
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=steps, completed=done, note="")

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def advance(self, step: int) -> None:
        self.bar.update(self.task, completed=step)

    def report(self, step: int, loss: float, data_ms: float, compute_ms: float) -> None:
        """One line of numbers: data and compute time are milliseconds per step."""
        note = f"loss {loss:.4f} · data {data_ms:.1f} ms · compute {compute_ms:.1f} ms"
        self.bar.update(self.task, completed=step, note=note)
        if not self.console.is_terminal:
            left = (time.monotonic() - self.started) / (step - self.first) * (self.steps - step)
            self.say(f"step {step}/{self.steps} · {note} · {_clock(left)} left")

    def say(self, text: str) -> None:
        if self.quiet:
            return
        if self.console.is_terminal:
            self.console.print(text)
        else:
            print(text, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
