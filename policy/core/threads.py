"""How many threads to compute with, found by trying.

More threads are not always faster: a small network's operations end before their threads have woken
up, and beside other busy processes every barrier waits for a thread that is not running.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from dipole.policy.core.timing import least_seconds

LONG_ENOUGH = 2.0  # seconds of one choice's trial, after which it is not repeated


@dataclass(frozen=True)
class Threads:
    """How a processor's cores are used.

    intra_op: Threads within one operation (OpenMP).
    batch: Threads that divide a batch.
    """

    intra_op: int = 1
    batch: int = 1

    def __str__(self) -> str:
        if self.batch == 1:
            return str(self.intra_op)
        return f"{self.batch} dividing rows" + (
            f" and {self.intra_op} in operations" if self.intra_op > 1 else ""
        )


def fastest_threads(
    choices: Sequence[Threads], work: Callable[[Threads], object], repeats: int = 3
) -> tuple[Threads, str]:
    """The choice with which `work` takes the least time, and what was found, in words.

    Leaves torch's number of threads as that choice has it. Only on a processor: on an accelerator
    `work` would not wait for its own end.
    """
    seconds = {choice: _seconds(work, choice, repeats) for choice in choices}
    best = min(seconds, key=lambda choice: seconds[choice])
    torch.set_num_threads(best.intra_op)
    found = ", ".join(f"{choice}: {1e3 * value:.0f} ms" for choice, value in seconds.items())
    return best, f"{best} ({found})"


def use_fastest_threads(work: Callable[[], object], repeats: int = 3) -> str:
    """Time `work` with one thread and with all, and keep the faster; returns both, in words."""
    available = torch.get_num_threads()
    choices = [Threads(count) for count in sorted({1, available})]
    best, found = fastest_threads(choices, lambda _: work(), repeats)
    return found.replace(str(best), f"{best} of {available}", 1)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Within it, torch's operations use `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread_each(count: int) -> Iterator[ThreadPoolExecutor | None]:
    """A pool of `count` threads whose operations use one core each; for 1 None, and no change."""
    if count == 1:
        yield None
        return
    with (
        torch_threads(1),
        ThreadPoolExecutor(count, "infer", torch.set_num_threads, (1,)) as pool,
    ):
        yield pool


def _seconds(work: Callable[[Threads], object], choice: Threads, repeats: int) -> float:
    torch.set_num_threads(choice.intra_op)
    return least_seconds({choice: lambda: work(choice)}, repeats, LONG_ENOUGH)[choice]
