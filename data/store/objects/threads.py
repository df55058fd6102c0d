"""Threads for requests, which end with the process, whatever they wait for."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any


class RequestThreads:
    """Up to `count` threads, started as they are needed; work is begun in the order it came."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._work = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._open = 0  # pieces of work that have not ended
        self._lock = threading.Lock()

    def submit(self, function: Callable[[], Any]) -> "Future[Any]":
        """The function's result, once a thread has called it."""
        future: Future[Any] = Future()
        with self._lock:
            self._open += 1
            if len(self._threads) < min(self._open, self._count):
                thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()
        self._work.put((future, function))
        return future

    def close(self) -> None:
        """Let the threads end once their work has; what waits is dropped."""
        with self._lock:
            with suppress(queue.Empty):
                while (left := self._work.get_nowait()) is not None:
                    left[0].cancel()
                    self._open -= 1
            for _ in self._threads:
                self._work.put(None)
            self._threads = []

    def _serve(self) -> None:
        while (given := self._work.get()) is not None:
            future, function = given
            try:
                if future.set_running_or_notify_cancel():
                    future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            with self._lock:
                self._open -= 1
