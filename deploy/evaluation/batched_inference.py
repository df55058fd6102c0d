"""Several control loops on clocks of their own, whose chunks are computed together.

Each loop runs in a thread, and its clock is virtual: it does not mind waiting. Whoever asks for a
chunk waits until everybody has asked; then all are computed, inference_batch_size rows a call.

    loop 0   ask ........wait......> chunk ── acts ── ask ..> ...
    loop 1   ── acts ── ask ..wait.> chunk ── ...
    policy                  [0, 1]

A row of a call does not depend on the others (see Executor), so neither does a loop on who runs
beside it.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dipole.deploy.inference.base import Compute
from dipole.deploy.inference.torch_policy import as_known, unknown
from dipole.deploy.types import Arrays, KnownActions, Ticket
from dipole.policy.execution.executor import ChunkPolicy, predict_rows


@dataclass
class _Asked:
    """A chunk that somebody waits for."""

    observation: Arrays
    known: KnownActions
    generator: torch.Generator
    chunk: np.ndarray | None = None
    error: Exception | None = None


class BatchedInference:
    """members: how many loops ask; each must `leave` when it asks no more."""

    def __init__(self, policy: ChunkPolicy, members: int, inference_batch_size: int = 16) -> None:
        self._policy, self._members, self._batch_size = policy, members, inference_batch_size
        self._waiting: list[_Asked] = []
        self._changed = threading.Condition()

    def compute(self, seed: int) -> Compute:
        """What computes the chunks of one run of a loop; seed: of its noise."""
        generator = torch.Generator().manual_seed(seed)

        def compute(
            _ticket: Ticket, observation: Arrays, known: KnownActions | None = None
        ) -> Mapping[str, Any]:
            return {"action": self._await(_Asked(observation, known or {}, generator))}

        return compute

    def leave(self) -> None:
        """Wait for this loop no more."""
        with self._changed:
            self._members -= 1
            self._settle()

    def _await(self, asked: _Asked) -> np.ndarray:
        with self._changed:
            self._waiting.append(asked)
            self._settle()
            self._changed.wait_for(lambda: asked.chunk is not None or asked.error is not None)
        if asked.error is not None:
            raise asked.error
        assert asked.chunk is not None
        return asked.chunk

    def _settle(self) -> None:
        """Compute what is waited for, if everybody waits."""
        if not self._waiting or len(self._waiting) < self._members:
            return
        waiting, self._waiting = self._waiting, []
        for group in self._groups(waiting):
            try:
                self._compute(group)
            except Exception as error:  # raised where it was asked for
                for asked in group:
                    asked.error = error
        self._changed.notify_all()

    def _groups(self, waiting: list[_Asked]) -> list[list[_Asked]]:
        size = self._batch_size
        return [waiting[i : i + size] for i in range(0, len(waiting), size)]

    def _compute(self, group: list[_Asked]) -> None:
        names = group[0].observation
        batch = {name: np.stack([asked.observation[name] for asked in group]) for name in names}
        known = None
        if first := next((asked.known for asked in group if asked.known), None):
            rows = [asked.known or unknown(first) for asked in group]
            known = as_known(rows, self._policy)
        generators = [asked.generator for asked in group]
        chunks = predict_rows(self._policy, batch, generators, self._batch_size, known)
        for asked, chunk in zip(group, chunks, strict=True):
            asked.chunk = chunk


def run_together(
    runs: int, members: int, run: Callable[[int], None], leave: Callable[[], None]
) -> None:
    """Call run(0) ... run(runs - 1), `members` at a time in threads; raises the first error.

    leave is called once by each of the threads.
    """
    left = iter(range(runs))
    errors: list[BaseException] = []
    lock = threading.Lock()

    def work() -> None:
        try:
            while not errors:
                with lock:
                    number = next(left, None)
                if number is None:
                    return
                run(number)
        except BaseException as error:  # raised again below
            errors.append(error)
        finally:
            leave()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(members)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
