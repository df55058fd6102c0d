"""Simulator slots in worker processes, so that simulation runs beside inference.

Slot s lives in worker s modulo the number of workers. Each worker has a pipe of its own, reads one
command at a time and answers each. A pipe holds little, and a worker that cannot write its answers
reads no commands: only as many are sent ahead as fit into any pipe, the others wait here.
"""

import contextlib
import multiprocessing
import time
from collections import deque
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from dipole.data.core.errors import DipoleError
from dipole.envs.errors import RolloutError
from dipole.envs.interface import Interface
from dipole.envs.rollout.deadline import hang, start_seconds, step_seconds
from dipole.envs.rollout.kept import KeptKeys
from dipole.envs.rollout.messages import Command, Turn
from dipole.envs.rollout.simulator import SimulatorPool
from dipole.envs.rollout.stepping import EnvironmentFactory
from dipole.envs.rollout.worker_process import WorkerProcess, ignore_interrupts, starting_workers

# Commands in a worker's pipe at once: the smallest pipe of the systems we know holds 8 KiB, and
# Linux counts each message for at least 768 bytes of 208 KiB.
COMMANDS_AHEAD = 16
BYTES_AHEAD = 4096


class WorkerSlots:
    """Slots spread over worker processes. A worker that raises, dies or hangs is a RolloutError.

    timeout: Seconds that a step may take; None: 60, and 120 for a worker's start and the making of
        an environment, which are never given less. It is then ended.
    """

    def __init__(
        self,
        make_environment: EnvironmentFactory,
        n_obs_steps: int,
        workers: int,
        interface: Interface | None = None,
        keys: KeptKeys | None = None,
        timeout: float | None = None,
    ) -> None:
        self._timeout = step_seconds(timeout)
        self._workers: list[_Worker] = []
        self._woken, self._waker = multiprocessing.get_context("spawn").Pipe(duplex=False)
        self.waited = 0.0
        try:
            with starting_workers():
                for _ in range(workers):
                    self._workers.append(_Worker(make_environment, n_obs_steps, interface, keys))
        except BaseException:
            self.close()
            raise

    @property
    def busy(self) -> int:
        return sum(len(worker.sent) + len(worker.waiting) for worker in self._workers)

    @property
    def workers(self) -> int:
        return len(self._workers)

    @property
    def idle(self) -> bool:
        return any(not worker.sent for worker in self._workers)

    def send(self, command: Command) -> None:
        self._workers[command.slot % len(self._workers)].send(command)

    def collect(self) -> list[Turn]:
        expecting = {w.connection: w for w in self._workers if w.sent}
        started = time.perf_counter()
        soonest = min((self._deadline(w) for w in expecting.values()), default=started)
        patience = max(0.0, soonest - started)
        ready = wait([*expecting, self._woken], patience) if expecting else []
        ended = time.perf_counter()
        self.waited += ended - started
        for connection, worker in expecting.items():
            if connection not in ready and ended >= self._deadline(worker):
                raise self._hang(worker)
        if self._woken in ready:
            self._woken.recv_bytes()
        return [turn for c, worker in expecting.items() if c in ready for turn in worker.receive()]

    def _deadline(self, worker: "_Worker") -> float:
        """When it has to have answered the oldest of what it was sent, on perf_counter's clock."""
        return worker.since + allowed_seconds(worker.oldest, self._timeout)

    def _hang(self, worker: "_Worker") -> RolloutError:
        command = worker.oldest
        worker.end(patiently=False)
        return hang(str(command), allowed_seconds(command, self._timeout), self._timeout)

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # closed
            self._waker.send_bytes(b"")

    def close(self) -> None:
        """End all workers: ask first, then insist."""
        self._waker.close()
        self._woken.close()
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.end()
        self._workers.clear()


def allowed_seconds(command: Command, timeout: float) -> float:
    """How long a worker may take for it. timeout: Of a step."""
    if command.actions is not None:
        return timeout * len(command.actions)
    return start_seconds(timeout)


class _Worker(WorkerProcess):
    """The main process's end of one worker. sent: {slot: command, size of its message} of those not
    answered yet, the oldest first; waiting: those not sent yet. since: When it was sent the oldest,
    or had its last answer read, on perf_counter's clock."""

    def __init__(self, *making: Any) -> None:
        """making: as SimulatorPool takes it."""
        super().__init__(_work, *making)
        self.sent: dict[int, tuple[Command, int]] = {}
        self.waiting: deque[Command] = deque()
        self.since = 0.0

    @property
    def oldest(self) -> Command:
        """What it works at; something is sent."""
        return next(iter(self.sent.values()))[0]

    def send(self, command: Command) -> None:
        self.waiting.append(command)
        self._send_ahead()

    def receive(self) -> list[Turn]:
        """All turns that have arrived; at least one is there or on its way."""
        turns: list[Turn] = []
        while not turns or (self.sent and self.connection.poll()):
            try:
                answer = self.connection.recv()
            except (EOFError, OSError):
                raise self._death() from None
            if isinstance(answer, DipoleError):
                raise answer
            del self.sent[answer.slot]
            self.since = time.perf_counter()
            self._send_ahead()
            turns.append(answer)
        return turns

    def _send_ahead(self) -> None:
        """Send what certainly fits into the pipe. A worker that owes nothing reads at once."""
        while self.waiting and len(self.sent) < COMMANDS_AHEAD:
            message = bytes(ForkingPickler.dumps(self.waiting[0]))
            if self.sent and len(message) + self._bytes_ahead > BYTES_AHEAD:
                return
            command = self.waiting.popleft()
            self.since = self.since if self.sent else time.perf_counter()
            self.sent[command.slot] = (command, len(message))
            try:
                self.connection.send_bytes(message)
            except OSError:
                raise self._death() from None

    @property
    def _bytes_ahead(self) -> int:
        return sum(size for _, size in self.sent.values())

    def _death(self) -> RolloutError:
        code = self.exit_code()
        episodes = ", ".join(str(command) for command, _ in self.sent.values())
        return RolloutError(
            f"a simulator process ended with exit code {code} while it had "
            f"{episodes} to simulate. Its own message, if it wrote one, stands above; a negative "
            "code is a signal (-9 is often the end of memory: use fewer workers or n_envs)"
        )


def _work(connection: Connection, *making: Any) -> None:
    """A worker's life: answer each command with a turn, or with the error that stopped it."""
    ignore_interrupts()
    pool = SimulatorPool(*making)
    try:
        while True:
            connection.send(pool.perform(connection.recv()))
    except DipoleError as error:
        with contextlib.suppress(OSError):  # the main process ends for another worker's error
            # Its cause stays here: a simulator's own exception may not survive the journey.
            connection.send(type(error)(str(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the main process has closed the pipe, or is gone
    finally:
        pool.close()
