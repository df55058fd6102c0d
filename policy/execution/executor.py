"""From observations to actions, row by row: the receding horizon, outside the network.

A row is one environment or one robot. With To = 2 observations, H = 8, Ta = 4:

    frame         t-1  t  t+1 t+2 t+3 t+4 t+5 t+6
    observations   o   o
    chunk [H]      .   x   x   x   x   .   .   .        x: executed, indices To-1 .. To-1+Ta-1

After these actions have been sent, the row needs another chunk, from new observations. Nothing here
is a network or keeps a clock. Simulation and the real-time loop share history.py.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from dipole.data import WindowSpec
from dipole.data.core.errors import ConfigError, DipoleError
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.execution.history import (
    ActionQueue,
    Observation,
    ObservationHistory,
    executed_slice,
)

__all__ = [
    "ActionQueue",
    "ChunkPolicy",
    "Executor",
    "InferenceCall",
    "NotFiniteError",
    "ObservationHistory",
    "executed_slice",
    "predict_rows",
]


ROWS = 16  # whose results do not depend on their order, see Executor


class NotFiniteError(DipoleError):
    """The policy predicted NaN or an infinity for a row."""

    def __init__(self, row: int) -> None:
        super().__init__(
            f"the policy predicted actions that are not finite (row {row}): check what it "
            "observes, and the checkpoint (did its training loss turn NaN?)"
        )
        self.row = row


class ChunkPolicy(Protocol):
    """What the executor needs of a policy."""

    @property
    def window(self) -> WindowSpec: ...

    def predict(self, observation: Any, generator: Any = None) -> torch.Tensor:
        """{name: [B, To, *shape]}, B generators -> [B, H, A] in the robot's units."""
        ...


@dataclass(frozen=True)
class InferenceCall:
    """One call of the policy.

    seconds: How long it took, until the chunks were on the host.
    rows: For how many rows it was made, repetitions aside.
    """

    seconds: float
    rows: int


class Executor:
    """Runs a policy over rows, and asks for a chunk only for rows that need one.

    A row's chunk depends on its own observations and its own seed, bit for bit, and not on the rows
    beside it. Matrix products round differently for different batch sizes, and contacts amplify
    that, so the policy is always called with exactly `inference_batch_size` rows, the last one
    repeated where fewer need a chunk. Rows that lack a sensor that others have, one that the policy
    may do without, are inferred for by themselves. A row's noise comes from its own generator, on
    the CPU whatever the policy's device.

    policy: May be called by several threads at once where there is a pool.
    n_rows: Environments or robots.
    inference_batch_size: 1 or a multiple of 16. What is left beside whole registers is computed by
        other code and rounds differently (measured with MKL: odd numbers of rows with AVX2, all
        that are not a multiple of 16 with AVX-512).
    n_action_steps: Actions executed of each chunk, instead of the window's.
    pool: Threads that infer for several batches beside each other, which changes no result.

    `calls` holds the duration of every inference.
    """

    def __init__(
        self,
        policy: ChunkPolicy,
        n_rows: int,
        *,
        inference_batch_size: int = 16,
        n_action_steps: int | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        check_batch_size(inference_batch_size)
        self.policy = policy
        self.inference_batch_size = inference_batch_size
        self.executed = executed_slice(policy.window, n_action_steps)
        self.pool = pool
        self.calls: list[InferenceCall] = []
        self._history = ObservationHistory(n_rows, policy.window.n_obs_steps)
        self._queue = ActionQueue(n_rows)
        self._generators = [torch.Generator() for _ in range(n_rows)]
        self._planned_next: dict[int, np.ndarray] = {}

    @property
    def n_action_steps(self) -> int:
        return int(self.executed.stop - self.executed.start)

    def reset(self, row: int, observation: Observation, seed: int) -> None:
        """Start the row's next episode.

        observation: The first, {name: [*shape]}.
        seed: Of the row's noise.
        """
        self._history.reset(row, observation)
        self._queue.reset(row)
        self._planned_next.pop(row, None)
        self._generators[row].manual_seed(seed)

    def observe(self, row: int, observation: Observation) -> None:
        """Add the row's newest observation, {name: [*shape]}."""
        self._history.append(row, observation)

    def stacked(self, row: int) -> dict[str, np.ndarray]:
        """The row's input to the policy, {name: [To, *shape]}."""
        return {name: value[0] for name, value in self._history.stacked([row]).items()}

    def planned_next(self, row: int) -> np.ndarray | None:
        """What the row's chunk has after its executed actions, [A]; None where it ends there."""
        return self._planned_next.get(row)

    def plan(self, rows: Sequence[int]) -> np.ndarray:
        """The next actions of these rows, in their order: [len(rows), Ta, A].

        Raises NotFiniteError where the policy predicts NaN or an infinity.
        """
        return self._checked(rows, self.plan_unchecked(rows))

    def plan_unchecked(self, rows: Sequence[int]) -> np.ndarray:
        """`plan`, in which actions of a row may be NaN or infinite: the others are what they are
        without it."""
        size = self.inference_batch_size
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        if self.pool is None or len(batches) == 1:
            return np.concatenate([self._drawn(batch) for batch in batches])
        return np.concatenate(list(self.pool.map(self._drawn, batches)))

    def start_plan(self, rows: Sequence[int]) -> "Future[np.ndarray]":
        """`plan` for at most `inference_batch_size` rows, in a thread of the pool where there is
        one. Nothing may be observed for these rows before it is done."""
        if self.pool is not None:
            return self.pool.submit(self._plan_batch, rows)
        done: Future[np.ndarray] = Future()
        try:
            done.set_result(self._plan_batch(rows))
        except Exception as error:
            done.set_exception(error)
        return done

    def act(self, rows: Sequence[int]) -> np.ndarray:
        """The next action of each of these rows, planned where a row has none: [len(rows), A]."""
        if empty := [row for row in rows if not self._queue.left(row)]:
            for row, actions in zip(empty, self.plan(empty), strict=True):
                self._queue.replace(row, actions)
        return np.stack([self._queue.pop(row) for row in rows])

    def _plan_batch(self, rows: Sequence[int]) -> np.ndarray:
        return self._checked(rows, self._drawn(rows))

    def _checked(self, rows: Sequence[int], actions: np.ndarray) -> np.ndarray:
        finite = np.isfinite(actions).all(axis=(1, 2))
        if not finite.all():
            raise NotFiniteError(rows[int(finite.argmin())])
        return actions

    def _drawn(self, rows: Sequence[int]) -> np.ndarray:
        drawn: dict[int, np.ndarray] = {}
        for alike in self._history.alike(rows):
            drawn.update(zip(alike, self._drawn_alike(alike), strict=True))
        return np.stack([drawn[row] for row in rows])

    def _drawn_alike(self, rows: Sequence[int]) -> np.ndarray:
        observation = self._history.stacked(rows)
        generators = [self._generators[row] for row in rows]
        started = time.perf_counter()
        chunk = predict_rows(self.policy, observation, generators, self.inference_batch_size)
        self.calls.append(InferenceCall(time.perf_counter() - started, len(rows)))
        actions = chunk[:, self.executed]  # [rows, Ta, A]
        if self.executed.stop < chunk.shape[1]:
            self._planned_next.update(zip(rows, chunk[:, self.executed.stop], strict=True))
        return actions


def check_batch_size(size: int) -> None:
    """Raise ConfigError for rows of an inference call that would change a row's result."""
    if size != 1 and (size < 1 or size % ROWS):
        raise ConfigError(
            f"inference_batch_size is {size}; it must be 1 or a multiple of {ROWS}, or a row's "
            "actions would depend on its place in the batch"
        )


def predict_rows(
    policy: ChunkPolicy,
    observation: Observation,
    generators: Sequence[torch.Generator],
    batch_size: int,
    known: KnownChunk | None = None,
) -> np.ndarray:
    """Chunks [B, H, A] of B <= batch_size rows, from one call with exactly batch_size rows.

    The last row is repeated; the repetitions draw their noise from a generator of their own.

    observation: {name: [B, To, *shape]}.
    generators: B.
    known: Parts of the chunks that are given, for a policy that supports them.
    """
    n_rows = len(generators)
    index = np.minimum(np.arange(batch_size), n_rows - 1)
    batch = {name: torch.from_numpy(value[index]) for name, value in observation.items()}
    padding = [torch.Generator()] * (batch_size - n_rows)
    predict: Callable[..., torch.Tensor] = policy.predict
    if known is not None:
        rows = replace(known, values=known.values[index], mask=known.mask[index])
        predict = partial(predict, known=rows)
    with torch.inference_mode(known is None or not known.needs_gradients), torch.no_grad():
        chunk = predict(batch, generator=[*generators, *padding])  # [batch_size, H, A]
    return chunk[:n_rows].float().cpu().numpy()
