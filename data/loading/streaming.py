"""Batches read from the store as they are needed, for datasets larger than memory."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch

from dipole.data.core.errors import DataError, DipoleError
from dipole.data.loading.batch_plan import BatchPlan
from dipole.data.loading.read_ahead import ReadAhead
from dipole.data.loading.window_source import Batch, WindowSource


class BatchDataset(torch.utils.data.Dataset[Any]):
    """Item n is the whole batch n, as CPU tensors; an error of ours is returned, not raised.

    Raised in a worker it would arrive wrapped in that process's traceback, which says nothing to a
    person.
    """

    def __init__(self, source: WindowSource, plan: BatchPlan) -> None:
        self.paths = ", ".join(str(part.store.path) for part in source.parts)
        self._source = source
        self._plan = plan
        self._ahead: ReadAhead | None = None

    def __getitem__(self, n: int) -> Batch | DipoleError:
        if self._ahead is None:
            self._ahead = ReadAhead(self._source, self._plan)
        try:
            worker = torch.utils.data.get_worker_info()
            self._ahead.reached(n, 1 if worker is None else worker.num_workers)
            batch = self._source.gather(self._plan.indices(n))
        except DipoleError as error:
            return error
        return _apply(torch.from_numpy, batch)

    def close(self) -> None:
        """End what is read ahead in this process."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None


class _Numbers:
    """Numbers of batches from `start` until `stop`; what a DataLoader calls a sampler."""

    def __init__(self, start: int) -> None:
        self._next = start
        self._stopped = False

    def __iter__(self) -> Iterator[int]:
        while not self._stopped:
            yield self._next
            self._next += 1

    def stop(self) -> None:
        self._stopped = True


class StreamingSource:
    """Batches from the store, read here or in `workers` spawned processes.

    In memory at a time: two batches for each worker, and 64 MiB of decoded chunks for each process
    and dataset.
    """

    def __init__(
        self, source: WindowSource, plan: BatchPlan, device: torch.device, workers: int
    ) -> None:
        self._dataset = BatchDataset(source, plan)
        self._device = device
        self._workers = workers

    def batches(self, start: int) -> Iterator[Batch]:
        numbers = _Numbers(start)
        loading = torch.utils.data.DataLoader(
            self._dataset,
            batch_size=None,
            sampler=numbers,
            num_workers=self._workers,
            multiprocessing_context="spawn" if self._workers else None,
            pin_memory=self._device.type == "cuda",
            # Its own generator: starting an iterator must not move torch's, which training resumes
            # from.
            generator=torch.Generator(),
        )
        iterator = iter(loading)
        answered = True
        try:
            while True:
                answered = False
                batch = self._next(iterator)
                answered = True
                if isinstance(batch, DipoleError):
                    raise batch
                yield _apply(lambda tensor: tensor.to(self._device, non_blocking=True), batch)
        finally:
            numbers.stop()
            self._dataset.close()
            if self._workers:
                _end(iterator, take_begun=answered)

    def _next(self, iterator: Iterator[Batch | DipoleError]) -> Batch | DipoleError:
        try:
            return next(iterator)
        except (RuntimeError, OSError, EOFError) as error:
            # torch says so in words; a connection to the dead process breaks in its own ways.
            if not self._workers or (
                isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error)
            ):
                raise
            raise DataError(
                f"{self._dataset.paths}: a loading worker died ({error}). Too little memory or a "
                "small /dev/shm are the usual reasons: use fewer workers or a smaller batch"
            ) from error


def _end(iterator: Iterator[Any], take_begun: bool) -> None:
    """End the workers of a DataLoader's iterator.

    Here and not when the iterator is collected: a traceback may keep it alive, and when collected
    in a cycle it loses the queue that tells its workers to end.

    take_begun: take from them what they have begun, first, since a worker that ends while a large
    batch is under way aborts. Not after an exception in the middle of an answer: its traceback
    keeps the conversation open that it broke off, a worker still waits there, and the next
    conversation with it would wait for ever.
    """
    with suppress(RuntimeError, OSError, EOFError, AssertionError):  # a worker may be dead already
        for _ in iterator if take_begun else ():
            pass
    with suppress(RuntimeError):
        getattr(iterator, "_shutdown_workers", lambda: None)()


def _apply(function: Any, batch: Batch) -> Batch:
    """The batch with a function applied to each of its arrays."""
    return {
        name: _apply(function, entry) if isinstance(entry, dict) else function(entry)
        for name, entry in batch.items()
    }
