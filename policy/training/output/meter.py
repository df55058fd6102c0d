"""Means over the steps since the last report: losses, and where the time went."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Clock = Callable[[], float]


class StepMeter:
    """Losses and times of steps alone: what runs between them (validation, saving, evaluation) is
    not counted.

    An accelerator computes a step after it was asked for: a step with `wait` ends when all that was
    asked for is done, which has to be so before anything else runs between steps.
    """

    def __init__(self, device: torch.device, clock: Clock = time.perf_counter) -> None:
        self.device, self.clock = device, clock
        self.reset()

    def reset(self) -> None:
        self.steps, self.seconds, self.data_seconds = 0, 0.0, 0.0
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    @contextmanager
    def step(self, wait: bool) -> Iterator[None]:
        """Around one step."""
        started = self.clock()
        yield
        if wait:
            wait_for(self.device)
        self.seconds += self.clock() - started
        self.steps += 1

    @contextmanager
    def data(self) -> Iterator[None]:
        """Around the wait for a batch, within a step."""
        started = self.clock()
        yield
        self.data_seconds += self.clock() - started

    def add(self, name: str, value: Tensor) -> None:
        """A scalar of one batch; nothing waits for the device."""
        if name not in self._sums:
            self._sums[name] = torch.zeros((), device=self.device)
            self._counts[name] = 0
        self._sums[name] += value.detach()
        self._counts[name] += 1

    def means(self) -> dict[str, float]:
        """Per batch, by name; waits for the device, once."""
        if not self._sums:
            return {}
        sums = torch.stack(list(self._sums.values())).tolist()
        return {n: total / self._counts[n] for n, total in zip(self._sums, sums, strict=True)}

    @property
    def data_ms(self) -> float:
        """Of a step, as the next."""
        return 1e3 * self.data_seconds / self.steps

    @property
    def compute_ms(self) -> float:
        return 1e3 * (self.seconds - self.data_seconds) / self.steps


def wait_for(device: torch.device) -> None:
    """Until an accelerator has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
