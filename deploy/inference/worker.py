"""A thread that carries requests to whoever computes chunks, and answers back.

One slot for the newest request, one queue for answers: the control thread leaves a request and
looks for an answer, and waits for neither. Whatever blocks, blocks here.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from dipole.data.core.errors import DipoleError
from dipole.deploy.inference.base import (
    NOTHING_KNOWN,
    WARM_UP,
    Compute,
    InferenceDied,
    compute_chunk,
)
from dipole.deploy.types import Arrays, KnownActions, PolicySpec, Request, Result

WARM_UP_SECONDS = 120.0


class InferenceWorker:
    """Carries requests by `exchange`, which may take as long as it likes.

    exchange: request -> result; raises InferenceDied where there will never be another answer, and
    any other exception becomes an answer that is an error. alive: raises InferenceDied as well; it
    is asked at each poll, so that a death is noticed without a request.
    """

    def __init__(
        self, exchange: Callable[[Request], Result], alive: Callable[[], None] = lambda: None
    ) -> None:
        self.warmed_up: Any = None
        self._exchange = exchange
        self._alive = alive
        self._slot: Request | None = None
        self._changed = threading.Condition()
        self._answers: deque[Result] = deque()
        self._death: InferenceDied | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._carry, daemon=True, name="dipole-inference")
        self._thread.start()

    @property
    def notes(self) -> list[str]:
        """Nothing to report."""
        return []

    def warm_up(
        self, observation: Arrays, calls: int, known: KnownActions = NOTHING_KNOWN
    ) -> list[float]:
        """Have chunks computed that are not used; see Inference.warm_up. Raises InferenceDied."""
        deadline = time.monotonic() + WARM_UP_SECONDS
        requests = [Request(WARM_UP, observation)] * calls
        if known:
            requests += [Request(WARM_UP, observation, known)] * calls
        return [self._await(request, deadline) for request in requests]

    def _await(self, request: Request, deadline: float) -> float:
        """Seconds that a chunk took; requests that are lost are made again."""
        reason = ""
        while True:
            self.submit(request)
            while (result := self.poll()) is None:
                if time.monotonic() > deadline:
                    because = f": {reason}" if reason else ""
                    raise InferenceDied(
                        f"no chunk within {WARM_UP_SECONDS:g} s of warming up{because}"
                    )
                time.sleep(0.001)
            if not result.lost:
                break
            reason = result.error
        if result.error:
            raise InferenceDied(f"warming up failed: {result.error}")
        self.warmed_up = result.answer
        return result.seconds

    def submit(self, request: Request) -> None:
        """Leave a request; one that still waits is replaced by it."""
        with self._changed:
            self._slot = request
            self._changed.notify()

    def poll(self) -> Result | None:
        """The next answer, if one is there. Raises InferenceDied."""
        with contextlib.suppress(IndexError):
            return self._answers.popleft()
        if self._death is not None:
            raise self._death
        self._alive()
        return None

    def close(self) -> None:
        """Carry nothing more; what is in work is left to whoever computes it."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def drop_waiting(self) -> None:
        """Answer a request that waits, if there is one, as lost."""
        with self._changed:
            request, self._slot = self._slot, None
        if request is not None:
            self._answers.append(Result(request.ticket, None, 0.0, lost=True))

    def _carry(self) -> None:
        while (request := self._next()) is not None:
            try:
                self._answers.append(self._exchange(request))
            except (InferenceDied, MemoryError) as error:
                self._death = InferenceDied(str(error) or "the computation ran out of memory")
                return
            except Exception as error:
                message = str(error) if isinstance(error, DipoleError) else repr(error)
                self._answers.append(Result(request.ticket, None, 0.0, message))

    def _next(self) -> Request | None:
        with self._changed:
            self._changed.wait_for(lambda: self._slot is not None or self._closed)
            request, self._slot = self._slot, None
            return None if self._closed else request


class ThreadInference(InferenceWorker):
    """Computes beside the control thread, and shares Python's interpreter lock with it: control
    slots come late while it works. It starts faster, and is easier to debug."""

    def __init__(self, spec: PolicySpec, compute: Compute) -> None:
        self.spec = spec
        self._compute = compute
        super().__init__(self._run)

    def _run(self, request: Request) -> Result:
        started = time.perf_counter()
        answer = compute_chunk(self._compute, request)
        return Result(request.ticket, answer, time.perf_counter() - started)
