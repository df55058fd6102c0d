"""Requests of several clients, computed together.

    client 0   ask ......wait......> chunk        A batch is computed as soon as everybody who is
    client 1       ask ..wait......> chunk        connected has asked, or `size` have, or the oldest
    policy           [0, 1]                       request has waited for `wait` seconds.

A lone client never waits. What is asked for meanwhile makes the next batch.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.deploy.types import Arrays, KnownActions, Ticket


class Overloaded(DipoleError):  # noqa: N818  it is what happened
    """More requests wait than the server keeps: this one was not taken."""


@dataclass(frozen=True)
class BatchSettings:
    """size: Rows of a batch, at most; 1 computes one request after another. wait: Milliseconds that
    a request may wait for others. max_waiting: Requests that may wait; more are refused."""

    size: int = 16
    wait: float = 2.0
    max_waiting: int = 64

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("wait", 0), ("max_waiting", 1)):
            value = getattr(self, name)
            kinds = (int, float) if name == "wait" else int
            if type(value) is bool or not isinstance(value, kinds) or not least <= value < math.inf:
                what = "a number" if name == "wait" else "a whole number"
                raise ConfigError(
                    f"batch.{name} is {value!r}; {what} of at least {least} is needed"
                )


@dataclass(eq=False)
class Row:
    """A request in a batch. noise: Its client's own, as the model made it."""

    ticket: Ticket
    observation: Arrays
    known: KnownActions
    noise: Any
    answer: Future[Any] = field(default_factory=Future)


class BatchModel(Protocol):
    """Computes several requests at once."""

    def noise(self) -> Any:
        """What a client keeps from one request to the next; another model can go on with it."""
        ...

    def compute(self, rows: Sequence[Row]) -> Sequence[Any]:
        """An answer {"action": [H, A]} for each."""
        ...


class ClientCompute:
    """What computes one client's requests, in any thread; `close` when it has gone."""

    def __init__(self, batcher: "Batcher", noise: Any) -> None:
        self._batcher, self._noise = batcher, noise

    def __call__(
        self, ticket: Ticket, observation: Arrays, known: KnownActions | None = None
    ) -> Any:
        """Raises Overloaded, and what the model raises for this request."""
        return self._batcher.ask(Row(ticket, observation, known or {}, self._noise))

    def close(self) -> None:
        self._batcher.leave()


class Batcher:
    """One policy, in a thread of its own. `swap` gives it other weights between two batches."""

    def __init__(
        self,
        model: BatchModel,
        settings: BatchSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.batches = settings, 0
        self._model, self._clock = model, clock
        self._members = 0
        self._waiting: list[tuple[float, Row]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def client(self) -> ClientCompute:
        """For one more client."""
        with self._changed:
            self._members += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
                self._thread.start()
        return ClientCompute(self, self._model.noise())

    def leave(self) -> None:
        """A client has gone: nobody waits for it."""
        with self._changed:
            self._members -= 1
            self._changed.notify_all()

    def swap(self, model: BatchModel) -> None:
        """From the next batch on; what is being computed ends with the model that it began with."""
        self._model = model

    def ask(self, row: Row) -> Any:
        with self._changed:
            if len(self._waiting) >= self.settings.max_waiting:
                raise Overloaded(
                    f"the server is busy: {len(self._waiting)} requests wait already "
                    "(batch.max_waiting); ask again later, or of another server"
                )
            self._waiting.append((self._clock(), row))
            self._changed.notify_all()
        return row.answer.result()

    def _run(self) -> None:
        while True:
            rows = self._next()
            self.batches += 1
            _compute(self._model, rows)

    def _next(self) -> list[Row]:
        """The rows of the next batch, the oldest first."""
        with self._changed:
            while (patience := self._patience()) is None or patience > 0:
                self._changed.wait(patience)
            size = self.settings.size
            taken, self._waiting = self._waiting[:size], self._waiting[size:]
            return [row for _, row in taken]

    def _patience(self) -> float | None:
        """Seconds until a batch is due; None where nobody asks."""
        if not self._waiting:
            return None
        if len(self._waiting) >= min(self.settings.size, self._members):
            return 0.0
        return self._waiting[0][0] + self.settings.wait / 1e3 - self._clock()


def _compute(model: BatchModel, rows: list[Row]) -> None:
    """Answer all of them. A request that fails does so alone."""
    try:
        for row, answer in zip(rows, model.compute(rows), strict=True):
            row.answer.set_result(answer)
    except BaseException as error:
        if len(rows) == 1:
            rows[0].answer.set_exception(error)
            return
        for row in rows:
            _compute(model, [row])
