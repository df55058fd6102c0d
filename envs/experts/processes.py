"""A function of episode seeds in worker processes, its results in the order of the seeds."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

from dipole.data.core.errors import DipoleError
from dipole.envs.rollout import RolloutError
from dipole.envs.rollout.worker_process import WorkerProcess, ignore_interrupts, starting_workers

AHEAD = 2  # results a worker may be ahead of what was taken, which are in memory meanwhile

Make = Callable[[], Callable[[Any], Any]]


@contextmanager
def ordered(
    make: Make, seeds: Iterable[Any], workers: int, name: str = "the episode of seed"
) -> Generator[Iterator[Any]]:
    """The results of `make()` for each of the seeds, or groups of them, which may have no end.

    make: Called once in each process; what it makes is closed, where it can be. name: Of what a
    seed is, for messages. A DipoleError of a seed is raised when its turn comes, after
    the results of the seeds before it; a process that ends is a RolloutError.
    """
    pool: list[_Worker] = []
    try:
        with starting_workers():
            for _ in range(workers):
                pool.append(_Worker(make, name))
        yield _results(pool, iter(seeds))
    finally:
        for worker in pool:
            worker.connection.close()
        for worker in pool:
            worker.end(patiently=worker.seed is None)  # one that works at nothing ends by itself


def _results(pool: "list[_Worker]", seeds: Iterator[int]) -> Iterator[Any]:
    given: deque[int] = deque()  # seeds of which no result was taken yet
    done: dict[int, Any] = {}
    more = True
    while True:
        for worker in pool:
            if more and worker.seed is None and len(given) < AHEAD * len(pool):
                seed = next(seeds, None)
                more = seed is not None
                if seed is not None:
                    given.append(seed)
                    worker.send(seed)
        if not given:
            return
        if given[0] not in done:
            busy = [worker for worker in pool if worker.seed is not None]
            ready = wait([worker.connection for worker in busy])
            for worker in busy:
                if worker.connection in ready:
                    seed, result = worker.receive()
                    done[seed] = result
            continue
        result = done.pop(given.popleft())
        if isinstance(result, DipoleError):
            raise result
        yield result


class _Worker(WorkerProcess):
    """The first process's end of a worker. seed: what it works at; None for nothing."""

    def __init__(self, make: Make, name: str) -> None:
        super().__init__(_work, make)
        self.seed: int | None = None
        self._name = name

    def send(self, seed: int) -> None:
        self.seed = seed
        try:
            self.connection.send(seed)
        except OSError:
            raise self._death() from None

    def receive(self) -> tuple[int, Any]:
        """The seed and its result."""
        assert self.seed is not None
        try:
            result = self.connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        seed, self.seed = self.seed, None
        return seed, result

    def _death(self) -> RolloutError:
        code = self.exit_code()
        return RolloutError(
            f"a process ended with exit code {code} in {self._name} "
            f"{self.seed}. Its own message, if it wrote one, stands above; a negative code is a "
            "signal (-9 is often the end of memory: use fewer workers)"
        )


def _work(connection: Connection, make: Make) -> None:
    """Answer each seed with its result, or with the error that stopped it."""
    ignore_interrupts()
    function: Callable[[int], Any] | None = None
    try:
        while True:
            seed = connection.recv()
            try:
                function = function or make()
                result = function(seed)
            except DipoleError as error:
                # Its cause stays here: a simulator's own exception may not survive the journey.
                result = _plain(error)
            connection.send(result)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the first process has closed the pipe, or is gone
    finally:
        if function is not None and hasattr(function, "close"):
            function.close()


def _plain(error: DipoleError) -> DipoleError:
    try:
        return type(error)(str(error))
    except TypeError:
        return RolloutError(str(error))
