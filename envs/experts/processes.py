"""A function of episode seeds in other processes, its results in the order of the seeds."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from dipole.data.core.errors import DipoleError
from dipole.envs.experts.watch import LOOK_SECONDS, Noted, Watch, note_in
from dipole.envs.rollout import RolloutError
from dipole.envs.rollout.cluster.settings import ClusterSettings
from dipole.envs.rollout.deadline import hang
from dipole.envs.rollout.worker_process import WorkerProcess, ignore_interrupts, starting_workers

AHEAD = 2  # results a process may be ahead of what was taken, which are in memory meanwhile

Make = Callable[[], Callable[[Any], Any]]


class Pool(Protocol):
    """Processes that make results of seeds. size: How many. room: How many of them do nothing.

    collect: Seeds with their results, or with the error that stopped them; waits until something
    happens.
    """

    @property
    def size(self) -> int: ...

    @property
    def room(self) -> int: ...

    def send(self, seed: Any) -> None: ...

    def collect(self) -> list[tuple[Any, Any]]: ...

    def close(self) -> None: ...


@contextmanager
def ordered(
    make: Make,
    seeds: Iterable[Any],
    workers: int,
    name: str = "the episode of seed",
    cluster: ClusterSettings | None = None,
    most: int | None = None,
) -> Generator[Iterator[Any]]:
    """The results of `make()` for each of the seeds, or groups of them, which may have no end.

    make: Called once in each process; what it makes is closed, where it can be. name: Of what a
    seed is, for messages. A DipoleError of a seed is raised when its turn comes, after
    the results of the seeds before it; a process that ends, or in which a simulator takes longer
    than it may, and which is ended then, is a RolloutError.
    cluster: Its actors in place of workers; where one ends, its seeds are begun again in others.
    most: Actors that have something to do, at most; None: all.
    """
    with _pool(make, workers, name, cluster, most) as pool:
        yield in_order(pool, iter(seeds))


def _pool(
    make: Make, workers: int, name: str, cluster: ClusterSettings | None, most: int | None
) -> AbstractContextManager[Pool]:
    """On a cluster, or else in processes of this machine."""
    if cluster is None:
        return closing(WorkerPool(make, workers, name))
    from dipole.envs.experts.cluster_seeds import pool_on

    return pool_on(cluster, make, name, most)


def in_order(pool: Pool, seeds: Iterator[Any]) -> Iterator[Any]:
    """The results of a pool, in the order of the seeds; the error of one when its turn comes."""
    given: deque[Any] = deque()  # seeds of which no result was taken yet
    done: dict[Any, Any] = {}
    more = True
    while True:
        while more and pool.room and len(given) < AHEAD * pool.size:
            seed = next(seeds, None)
            more = seed is not None
            if more:
                given.append(seed)
                pool.send(seed)
        if not given and not more:
            return
        if not given or given[0] not in done:
            done.update(pool.collect())
            continue
        result = done.pop(given.popleft())
        if isinstance(result, DipoleError):
            raise result
        yield result


class SeedFunction:
    """In a process: `make()`, called when the first seed is there, and what stopped it."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._function: Callable[[Any], Any] | None = None

    def __call__(self, seed: Any) -> Any:
        """The result, or the DipoleError in place of it."""
        try:
            self._function = self._function or self._make()
            return self._function(seed)
        except DipoleError as error:
            # Its cause stays here: a simulator's own exception may not survive the journey.
            return _plain(error)

    def close(self) -> None:
        """Close what was made, where it can be."""
        if self._function is not None and hasattr(self._function, "close"):
            self._function.close()


class WorkerPool:
    """Processes of this machine. One that ends, or is ended because a simulator hangs in it, is the
    error of the seed that it worked at."""

    def __init__(self, make: Make, workers: int, name: str) -> None:
        self._name = name
        self._workers: list[_Worker] = []
        try:
            with starting_workers():
                for _ in range(workers):
                    self._workers.append(_Worker(make))
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        return len(self._workers)

    @property
    def room(self) -> int:
        return len(self._idle())

    def send(self, seed: Any) -> None:
        self._idle()[0].send(seed)

    def collect(self) -> list[tuple[Any, Any]]:
        busy = [each for each in self._workers if each.seed is not None and not each.ended]
        found: list[tuple[Any, Any]] = []
        while busy and not found:
            began = time.perf_counter()
            ready = wait([each.connection for each in busy], LOOK_SECONDS)
            waited = time.perf_counter() - began
            for each in busy:
                if each.connection in ready:
                    found.append(self._received(each))
                elif (seconds := each.watch.exceeded(waited)) is not None:
                    found.append(self._ended(each, seconds))
        return found

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.end(patiently=worker.seed is None)  # one that works at nothing ends by itself

    def _idle(self) -> "list[_Worker]":
        return [each for each in self._workers if each.seed is None]

    def _received(self, worker: "_Worker") -> tuple[Any, Any]:
        seed = worker.seed
        try:
            return seed, worker.receive()
        except (EOFError, OSError):
            worker.ended = True
            return seed, RolloutError(
                f"a process ended with exit code {worker.exit_code()} in {self._name} "
                f"{seed}. Its own message, if it wrote one, stands above; a negative code is a "
                "signal (-9 is often the end of memory: use fewer workers)"
            )

    def _ended(self, worker: "_Worker", seconds: float) -> tuple[Any, Any]:
        """Of one whose simulator has taken longer than it may."""
        worker.ended = True
        worker.end(patiently=False)
        return worker.seed, hang(f"{self._name} {worker.seed}", seconds, seconds)


class _Worker(WorkerProcess):
    """The first process's end of a worker. seed: What it works at; None for nothing."""

    def __init__(self, make: Make) -> None:
        self.seed: Any = None
        self.ended = False
        self.watch = Watch()
        super().__init__(_work, self.watch.noted, make)

    def send(self, seed: Any) -> None:
        self.seed = seed
        with suppress(OSError):  # it has ended, as `receive` finds out
            self.connection.send(seed)

    def receive(self) -> Any:
        result = self.connection.recv()
        self.seed = None
        return result


def _work(connection: Connection, noted: Noted, make: Make) -> None:
    """Answer each seed with its result, or with the error that stopped it."""
    ignore_interrupts()
    note_in(noted)
    with closing(SeedFunction(make)) as function:
        try:
            while True:
                connection.send(function(connection.recv()))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass  # the first process has closed the pipe, or is gone


def _plain(error: DipoleError) -> DipoleError:
    try:
        return type(error)(str(error))
    except TypeError:
        return RolloutError(str(error))
