"""How many threads to compute with, found by trying.

More threads are not always faster: a small network's operations end before their threads have woken
up, and beside other busy processes every barrier waits for one that is not running.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch

LONG_ENOUGH = 2.0  # seconds of one choice's trial, after which it is not repeated


@dataclass(frozen=True)
class Threads:
    """operations: threads within one operation (OpenMP). rows: threads that divide a batch."""

    operations: int = 1
    rows: int = 1

    def __str__(self) -> str:
        if self.rows == 1:
            return str(self.operations)
        return f"{self.rows} dividing rows" + (
            f" and {self.operations} in operations" if self.operations > 1 else ""
        )


def fastest_threads(
    choices: Sequence[Threads], work: Callable[[Threads], object], repeats: int = 3
) -> tuple[Threads, str]:
    """The choice with which `work` takes the least time, and what was found, in words.

    Leaves torch's number of threads as that choice has it. Only on a processor: on an accelerator
    `work` would not wait for its own end.
    """
    seconds = {choice: _shortest(work, choice, repeats) for choice in choices}
    best = min(seconds, key=lambda choice: seconds[choice])
    torch.set_num_threads(best.operations)
    found = ", ".join(f"{choice}: {1e3 * value:.0f} ms" for choice, value in seconds.items())
    return best, f"{best} ({found})"


def use_fastest_threads(work: Callable[[], object], repeats: int = 3) -> str:
    """Time `work` with one thread and with all, keep the faster; returns what was found."""
    everything = torch.get_num_threads()
    choices = [Threads(count) for count in sorted({1, everything})]
    best, found = fastest_threads(choices, lambda _: work(), repeats)
    return found.replace(str(best), f"{best} of {everything}", 1)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads for torch's operations while it lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread_each(count: int) -> Iterator[ThreadPoolExecutor | None]:
    """So many threads whose operations use one core each; None, and nothing changed, for one."""
    if count == 1:
        yield None
        return
    with (
        torch_threads(1),
        ThreadPoolExecutor(count, "infer", torch.set_num_threads, (1,)) as pool,
    ):
        yield pool


def _shortest(work: Callable[[Threads], object], choice: Threads, repeats: int) -> float:
    torch.set_num_threads(choice.operations)
    work(choice)  # warms up
    taken: list[float] = []
    while len(taken) < repeats and sum(taken) < LONG_ENOUGH:
        started = time.perf_counter()
        work(choice)
        taken.append(time.perf_counter() - started)
    return min(taken)
