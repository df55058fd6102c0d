"""The means of the steps since the last report: loss, and where their time went."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Clock = Callable[[], float]


class StepMeter:
    """Times steps alone: what happens between them (validation, saving, evaluation) is not theirs.

    An accelerator computes a step after it was asked for: a step with `wait` ends when all that was
    asked for is done, which has to be so before anything else runs between steps.
    """

    def __init__(self, device: torch.device, clock: Clock = time.perf_counter) -> None:
        self.device, self.clock = device, clock
        self.reset()

    def reset(self) -> None:
        self.steps, self.seconds, self.data_seconds = 0, 0.0, 0.0
        self.loss_sum = torch.zeros((), device=self.device)

    @contextmanager
    def step(self, wait: bool) -> Iterator[None]:
        """Around one update of the weights."""
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

    def add_loss(self, loss: Tensor) -> None:
        """Of a step, or of a part of one; nothing waits for the device."""
        self.loss_sum += loss

    @property
    def loss(self) -> float:
        return float(self.loss_sum) / self.steps

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
