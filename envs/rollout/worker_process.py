"""A process that works for this one, at the other end of a pipe.

Workers are spawned, never forked (a forked copy of threads and of an accelerator's state does not
work), run one thread each, leave Ctrl-C to the main process, and end when their pipe does, so none
outlives it.
"""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from typing import Any

from dipole.data.core.environ import environment_variables

# Threads of workers would fight with inference for the processors; waiting ones must not spin.
WORKER_VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
GRACE_SECONDS = 5.0


class WorkerProcess:
    """Started when made; within `starting_workers`.

    work: Called there with its end of the pipe and the arguments; it calls `ignore_interrupts`
        first, and returns when the pipe ends.
    """

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, far_end = context.Pipe()
        self._process = context.Process(target=work, args=(far_end, *arguments), daemon=True)
        self._process.start()
        far_end.close()  # so that the worker's death is the end of the pipe

    def end(self, *, patiently: bool = True) -> None:
        """Its pipe is closed: wait for it, if patiently, then insist."""
        process = self._process
        if patiently:
            process.join(GRACE_SECONDS)
        for insist in (process.terminate, process.kill):
            if process.exitcode is None:
                insist()
                process.join(GRACE_SECONDS)

    def exit_code(self) -> int | None:
        """Of a process whose pipe has ended."""
        self._process.join(GRACE_SECONDS)
        return self._process.exitcode


@contextlib.contextmanager
def starting_workers() -> Iterator[None]:
    """Processes started within inherit one thread each and a blocked SIGINT.

    Ctrl-C reaches the whole process group: only the main process may answer it.
    """
    maskable = hasattr(signal, "pthread_sigmask")
    if maskable:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with environment_variables(WORKER_VARIABLES):
            yield
    finally:
        if maskable:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def ignore_interrupts() -> None:
    """In a worker: an interrupt is the main process's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
