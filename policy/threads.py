"""How many threads to compute with, found by trying.

More threads are not always faster: a small network's operations end before their threads have woken
up, and beside other busy processes every barrier waits for one that is not running.
"""

import time
from collections.abc import Callable

import torch


def use_fastest_threads(work: Callable[[], object], repeats: int = 3) -> str:
    """Time `work` with one thread and with all, keep the faster; returns what was found, in words.

    Only on a processor: on an accelerator `work` would not wait for its own end.
    """
    everything = torch.get_num_threads()
    seconds = {count: _shortest(work, count, repeats) for count in sorted({1, everything})}
    best = min(seconds, key=lambda count: seconds[count])
    torch.set_num_threads(best)
    found = ", ".join(f"{count}: {1e3 * value:.0f} ms" for count, value in seconds.items())
    return f"{best} of {everything} ({found})"


def _shortest(work: Callable[[], object], count: int, repeats: int) -> float:
    torch.set_num_threads(count)
    work()  # warms up
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)
