"""Frames of coming batches, fetched in the background where datasets lie in object storage."""

from functools import partial

from dipole.data.loading.batch_plan import BatchPlan
from dipole.data.loading.window_source import WindowSource
from dipole.data.store.objects.threads import RequestThreads

BATCHES = 8  # ahead of the one that is asked for


class ReadAhead:
    """Asks for the frames of batches before they are read; does nothing for local datasets.

    What it cannot fetch is not its error: whoever reads those frames is told.
    """

    def __init__(self, source: WindowSource, plan: BatchPlan) -> None:
        self._source, self._plan = source, plan
        self._asked = -1  # the last batch that was asked for
        self._thread: RequestThreads | None = None
        self._enabled = any(part.store.files.remote for part in source.parts)

    def reached(self, n: int, step: int = 1) -> None:
        """Batch n is read now; n + step, n + 2 step, ... will follow."""
        if not self._enabled:
            return
        if self._thread is None:
            self._thread = RequestThreads(1, "read-ahead")
        last = n + BATCHES * step
        first = self._asked + step if n <= self._asked <= last else n
        for coming in range(first, last + 1, step):
            self._thread.submit(partial(self._ask, coming))
        self._asked = last

    def _ask(self, n: int) -> None:
        self._source.prefetch(self._plan.indices(n))

    def close(self) -> None:
        """Drop what was not begun."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None
