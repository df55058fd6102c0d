"""Inference on the virtual clock, for tests and for evaluation."""

from collections import deque
from collections.abc import Callable

import numpy as np

from dipole.deploy.inference.base import NOTHING_KNOWN, WARM_UP, Compute, compute_chunk
from dipole.deploy.loop.clock import VirtualClock
from dipole.deploy.types import Arrays, KnownActions, PolicySpec, Request, Result, Ticket


class VirtualInference:
    """Computes at once, and answers when the virtual clock says so: deterministic, for tests.

    delay: seconds from request to answer, a number or a function of the ticket; math.inf loses it.
    """

    def __init__(
        self,
        spec: PolicySpec,
        compute: Compute,
        clock: VirtualClock,
        delay: float | Callable[[Ticket], float] = 0.0,
    ) -> None:
        self.spec = spec
        self._compute = compute
        self._clock = clock
        self._delay = delay if callable(delay) else lambda _ticket: delay
        self._answers: deque[Result] = deque()

    @property
    def notes(self) -> list[str]:
        """Nothing to report."""
        return []

    @property
    def warmed_up(self) -> None:
        """Nothing is computed."""

    def warm_up(
        self, observation: Arrays, calls: int, known: KnownActions = NOTHING_KNOWN
    ) -> list[float]:
        """The delays of as many requests; nothing is computed, and no time passes."""
        return [self._delay(WARM_UP) for _ in range(calls * (2 if known else 1))]

    def submit(self, request: Request) -> None:
        delay = self._delay(request.ticket)
        answer = compute_chunk(self._compute, request)
        self.deliver(Result(request.ticket, answer, delay), delay)

    def deliver(self, result: Result, delay: float) -> None:
        """Have an answer arrive `delay` seconds from now."""
        if delay <= 0:
            self._answers.append(result)
        elif np.isfinite(delay):
            self._clock.call_at(self._clock.now() + delay, lambda: self._answers.append(result))

    def poll(self) -> Result | None:
        return self._answers.popleft() if self._answers else None

    def close(self) -> None:
        self._answers.clear()
