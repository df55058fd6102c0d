"""Inference in a process of its own: it cannot hold the control loop's interpreter lock, and when
it dies the loop lives to stop the robot.

The process is spawned, ignores the terminal's signals, which reach the whole process group but are
the loop's to answer, and ends when its pipe does: it does not outlive the loop.
"""

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from multiprocessing.connection import Connection, wait
from typing import Any

from dipole.data.core.errors import DipoleError
from dipole.data.core.from_mapping import from_mapping
from dipole.deploy.inference.base import Compute, InferenceDied, compute_chunk
from dipole.deploy.inference.worker import InferenceWorker
from dipole.deploy.safety.signals import ignore_terminal_signals
from dipole.deploy.types import PolicySpec, Request, Result

# Importable, as it is called in the process: with functools.partial for its arguments.
ComputeFactory = Callable[[], tuple[PolicySpec, Compute]]
START_SECONDS = 180.0
GRACE_SECONDS = 0.5
NICENESS = 5  # the control loop comes first where they share a processor


class ProcessInference(InferenceWorker):
    """Computes in a process. pid: its number.

    factory: makes the computation, there. Raises the DipoleError that the factory raised, and
    InferenceDied where the process ended before it was ready.
    """

    def __init__(self, factory: ComputeFactory) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_compute, args=(far_end, factory), daemon=True)
        self._reaping = threading.Lock()  # of two threads that reap, one finds no exit code
        self._process.start()
        far_end.close()  # so that the process's death is the end of the pipe
        try:
            self.spec = self._await_spec()
        except BaseException:  # Ctrl-C, too: loading may take minutes
            self._end_process()
            raise
        super().__init__(self._run, self._check)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def close(self) -> None:
        """End the process, whatever it is doing."""
        super().close()
        self._end_process()

    def _end_process(self) -> None:
        """By the end of its pipe, then by signals."""
        self._pipe.close()
        with self._reaping:
            self._process.join(GRACE_SECONDS)
            for insist in (self._process.terminate, self._process.kill):
                if self._process.exitcode is None:
                    insist()
                    self._process.join(GRACE_SECONDS)

    def _await_spec(self) -> PolicySpec:
        try:
            if not self._pipe.poll(START_SECONDS):
                raise InferenceDied(f"the inference process said nothing for {START_SECONDS:g} s")
            first = self._pipe.recv()
        except (EOFError, OSError):
            raise self._cause() from None
        if isinstance(first, DipoleError):
            raise first
        assert isinstance(first, PolicySpec)
        return first

    def _run(self, request: Request) -> Result:
        try:
            self._pipe.send(request)
            result = self._pipe.recv()
        except (EOFError, OSError):
            raise self._cause() from None
        assert isinstance(result, Result)
        return result

    def _check(self) -> None:
        if wait([self._process.sentinel], 0):
            raise self._cause()

    def _cause(self) -> InferenceDied:
        with self._reaping:
            self._process.join(GRACE_SECONDS)
            code = self._process.exitcode
        if code is None:
            return InferenceDied("the inference process closed its pipe, and goes on running")
        return InferenceDied(
            f"the inference process ended with exit code {code} (-9 is often the end of memory)"
        )


def _compute(pipe: Connection, factory: ComputeFactory) -> None:
    """The process's life: make the computation, say what it is, answer requests."""
    ignore_terminal_signals()
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    # Without these the loop has closed the pipe, or is gone.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            spec, compute = factory()
        except DipoleError as error:
            pipe.send(type(error)(str(error)))
            return
        pipe.send(spec)
        while True:
            pipe.send(_answer(pipe.recv(), compute))


def _answer(request: Request, compute: Compute) -> Result:
    started = time.perf_counter()
    try:
        answer = compute_chunk(compute, request)
    except MemoryError:
        raise  # the end of the process, with its traceback
    except Exception as error:
        message = str(error) if isinstance(error, DipoleError) else repr(error)
        return Result(request.ticket, None, time.perf_counter() - started, message)
    return Result(request.ticket, answer, time.perf_counter() - started)


@dataclass(frozen=True)
class FromCheckpoint:
    """Makes a checkpoint's policy where it is called: in the inference process, which alone
    imports torch. Raises CheckpointError and ConfigError there.

    checkpoint: path of a run, of one of its checkpoints, or of an export; s3://..., too.
    device: "cpu", "cuda", ..., or "auto": the accelerator, if there is one.
    weights: "ema" or "raw".
    solver: what to replace of how chunks are drawn, {"steps": 10}; None entries replace nothing.
    runtime: see load_runnable.
    threads: of the processor; None: torch's own choice.
    seed: of the noise.
    part: which dataset of a mixture the robot is like, see load_policy; None: none.
    guidance_scale: of classifier-free guidance; None: the checkpoint's own.
    """

    checkpoint: str
    device: str = "cpu"
    weights: str = "ema"
    solver: Mapping[str, Any] = field(default_factory=dict)
    runtime: str | None = None
    threads: int | None = None
    seed: int = 0
    part: str | None = None
    guidance_scale: float | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FromCheckpoint":
        """From a configuration that has these fields, among others."""
        chosen = {entry.name: values[entry.name] for entry in fields(cls)}
        checkpoint = os.path.expanduser(str(values["checkpoint"]))
        return from_mapping(cls, chosen | {"checkpoint": checkpoint}, "")

    def __call__(self) -> tuple[PolicySpec, Compute]:
        from dipole.deploy.inference.torch_policy import load_compute

        return load_compute(self)
