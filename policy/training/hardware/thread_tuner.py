"""How many threads a run uses on a processor: measured, and again when a step's time changes.

Which choice is fastest depends on other processes. OpenMP's threads spin until all of them have
finished an operation, which is best on an idle machine and worst on a busy one, where every
operation waits for a thread that is not running.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from dipole.policy.core.threads import Threads, fastest_threads
from dipole.policy.policy import Policy
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.hardware.threaded_batch import is_divisible, thread_choices

CHANGED = 1.5  # ratio of a step's times at which the choice is made again
COMPILING = 2  # trials of each choice before torch.compile has compiled everything
KEPT = 20.0  # seconds for which a choice is kept at least


@dataclass
class ThreadTuner:
    """Chooses a CPU run's threads. trial: Computes one step, on random data.

    Results depend on the number of threads by rounding, so that it is fixed where it was given and
    where the run is deterministic.
    """

    policy: Policy
    config: TrainConfig
    trial: Callable[[Threads], object]
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        self.cores = torch.get_num_threads()
        self.before: float | None = None
        self.chosen_at = time.monotonic()
        self.divisible = is_divisible(self.policy)
        given = self.config.threads is not None or self.config.deterministic
        self.is_fixed = given or self.cores == 1

    def choose(self) -> Threads:
        """The fastest threads; sets torch's number of them."""
        self.before, self.chosen_at = None, time.monotonic()
        if self.is_fixed:
            count = self.cores if self.config.threads is None else self.config.threads
            chosen = Threads(1, batch=count) if self.divisible else Threads(count)
            torch.set_num_threads(chosen.intra_op)
            return chosen
        # Compiled code is compiled again for each number of threads, which rows rarely repay.
        divides = self.divisible and not self.config.compile
        choices = thread_choices(self.policy, self.cores, divide=divides)
        for choice in choices * COMPILING if self.config.compile else ():
            torch.set_num_threads(choice.intra_op)
            self.trial(choice)
        chosen, found = fastest_threads(choices, self.trial)
        self.say(f"threads: {found}")
        return chosen

    def has_changed(self, seconds: float) -> bool:
        """Whether a step takes much longer or shorter than when the threads were chosen."""
        if self.is_fixed:
            return False
        if self.before is None:
            self.before = seconds
        if time.monotonic() < self.chosen_at + KEPT:
            return False
        return not 1 / CHANGED < seconds / self.before < CHANGED
