"""From observations to actions, row by row: the receding horizon, outside the network.

A row is one environment or one robot. With To = 2 observations, H = 8, Ta = 4:

    frame         t-1  t  t+1 t+2 t+3 t+4 t+5 t+6
    observations   o   o
    chunk [H]      .   x   x   x   x   .   .   .        x: executed, indices To-1 .. To-1+Ta-1

After the x have been sent the row looks again, and only then asks for another chunk. Nothing here
is a network or keeps a clock: simulation and the real-time loop share these classes.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from dipole.data import WindowSpec
from dipole.data.errors import ConfigError, DipoleError

Observation = Mapping[str, np.ndarray]  # name -> [*shape], or [To, *shape], [B, To, *shape]


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


def executed_slice(window: WindowSpec, n_action_steps: int | None = None) -> slice:
    """Which actions of a chunk are sent: [To-1 : To-1+Ta].

    n_action_steps replaces the window's Ta. Raises ConfigError where that is not in the chunk.
    """
    steps = window.n_action_steps if n_action_steps is None else n_action_steps
    start = window.n_obs_steps - 1
    if steps < 1:
        raise ConfigError(f"n_action_steps is {steps}; at least one action has to be executed")
    if start + steps > window.horizon:
        raise ConfigError(
            f"n_action_steps = {steps} ends at action {start + steps}, past the horizon of "
            f"{window.horizon}: at most {window.horizon - start} actions can be executed"
        )
    return slice(start, start + steps)


class ObservationHistory:
    """The last To observations of each row; the first one is repeated until there are To.

    >>> history = ObservationHistory(n_rows=1, n_obs_steps=3)
    >>> history.reset(0, {"x": np.array([7.0])})
    >>> history.append(0, {"x": np.array([8.0])})
    >>> history.stacked([0])["x"].tolist()
    [[[7.0], [7.0], [8.0]]]
    """

    def __init__(self, n_rows: int, n_obs_steps: int) -> None:
        if n_rows < 1 or n_obs_steps < 1:
            raise ConfigError(f"n_rows = {n_rows} and n_obs_steps = {n_obs_steps} must be positive")
        self.n_obs_steps = n_obs_steps
        self._rows: list[list[dict[str, np.ndarray]]] = [[] for _ in range(n_rows)]

    def reset(self, row: int, observation: Observation) -> None:
        """Forget the row's past; `observation` {name: [*shape]} is its first."""
        first = {name: np.array(value) for name, value in observation.items()}
        self._rows[row] = [first] * self.n_obs_steps

    def append(self, row: int, observation: Observation) -> None:
        """Add the row's newest observation {name: [*shape]}; the names are those of the first."""
        past = self._rows[row]
        if not past:
            raise ValueError(f"row {row} has no first observation: reset it before appending")
        newest = {name: np.array(observation[name]) for name in past[0]}
        self._rows[row] = [*past[1:], newest]

    def stacked(self, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """The rows' observations, oldest first: {name: [len(rows), To, *shape]}."""
        if empty := [row for row in rows if not self._rows[row]]:
            raise ValueError(f"row {empty[0]} has no observation: reset it first")
        names = self._rows[rows[0]][0]
        return {
            name: np.stack([np.stack([seen[name] for seen in self._rows[row]]) for row in rows])
            for name in names
        }


class ActionQueue:
    """The actions that each row has still to execute, first in, first out."""

    def __init__(self, n_rows: int) -> None:
        self._rows: list[list[np.ndarray]] = [[] for _ in range(n_rows)]

    def reset(self, row: int) -> None:
        """Drop what the row has not executed."""
        self._rows[row] = []

    def replace(self, row: int, actions: np.ndarray) -> None:
        """The row's next actions [Ta, A]; what was left of the last ones is dropped."""
        self._rows[row] = list(actions)

    def left(self, row: int) -> int:
        """How many actions the row has."""
        return len(self._rows[row])

    def pop(self, row: int) -> np.ndarray:
        """The row's next action [A]. Raises IndexError where there is none."""
        if not self._rows[row]:
            raise IndexError(f"row {row} has no action left: plan for it first")
        return self._rows[row].pop(0)


@dataclass(frozen=True)
class InferenceCall:
    """One call of the policy: how long it took, and for how many rows it was made."""

    seconds: float
    rows: int


class Executor:
    """Runs a policy over rows; a chunk is asked for only where a row needs one.

    A row's chunk depends on its own observations and its own seed, bit for bit, and not on the rows
    beside it. Matrix products round differently for different batch sizes, and contacts amplify
    that, so the policy is always called with exactly `group_size` rows, the last one repeated where
    fewer need a chunk. It is 1 or even: the last row of an odd batch is computed by other code and
    rounds differently (measured with MKL). A row's noise comes from its own generator, on the CPU
    whatever the policy's device.

    `calls` holds the duration of every inference, results on the host included.
    """

    def __init__(
        self,
        policy: ChunkPolicy,
        n_rows: int,
        *,
        group_size: int = 16,
        n_action_steps: int | None = None,
    ) -> None:
        if group_size < 1 or (group_size > 1 and group_size % 2):
            raise ConfigError(
                f"group_size is {group_size}; it must be 1 or even, or a row's actions would "
                "depend on its place in the group"
            )
        self.policy = policy
        self.group_size = group_size
        self.executed = executed_slice(policy.window, n_action_steps)
        self.calls: list[InferenceCall] = []
        self._history = ObservationHistory(n_rows, policy.window.n_obs_steps)
        self._queue = ActionQueue(n_rows)
        self._generators = [torch.Generator() for _ in range(n_rows)]

    @property
    def n_action_steps(self) -> int:
        return int(self.executed.stop - self.executed.start)

    def reset(self, row: int, observation: Observation, seed: int) -> None:
        """Start the row anew: first observation {name: [*shape]}, seed of its noise."""
        self._history.reset(row, observation)
        self._queue.reset(row)
        self._generators[row].manual_seed(seed)

    def observe(self, row: int, observation: Observation) -> None:
        """Add what the row sees now, {name: [*shape]}."""
        self._history.append(row, observation)

    def stacked(self, row: int) -> dict[str, np.ndarray]:
        """What the policy would be shown for the row: {name: [To, *shape]}."""
        return {name: value[0] for name, value in self._history.stacked([row]).items()}

    def plan(self, rows: Sequence[int]) -> np.ndarray:
        """The next actions of these rows, in their order: [len(rows), Ta, A].

        Raises NotFiniteError where the policy predicts NaN or an infinity.
        """
        groups = [rows[i : i + self.group_size] for i in range(0, len(rows), self.group_size)]
        return np.concatenate([self._plan_group(group) for group in groups])

    def act(self, rows: Sequence[int]) -> np.ndarray:
        """The next action of each of these rows, planned where a row has none: [len(rows), A]."""
        if hungry := [row for row in rows if not self._queue.left(row)]:
            for row, actions in zip(hungry, self.plan(hungry), strict=True):
                self._queue.replace(row, actions)
        return np.stack([self._queue.pop(row) for row in rows])

    def _plan_group(self, rows: Sequence[int]) -> np.ndarray:
        observation = self._history.stacked(rows)
        generators = [self._generators[row] for row in rows]
        started = time.perf_counter()
        chunk = predict_group(self.policy, observation, generators, self.group_size)
        self.calls.append(InferenceCall(time.perf_counter() - started, len(rows)))
        actions = chunk[:, self.executed]  # [rows, Ta, A]
        finite = np.isfinite(actions).all(axis=(1, 2))
        if not finite.all():
            raise NotFiniteError(rows[int(finite.argmin())])
        return actions


def predict_group(
    policy: ChunkPolicy,
    observation: Observation,
    generators: Sequence[torch.Generator],
    group_size: int,
) -> np.ndarray:
    """The chunks [B, H, A] of B <= group_size rows, from one call with exactly group_size rows.

    observation: {name: [B, To, *shape]}. The last row is repeated; the repetitions draw their noise
    from a generator that nobody else uses.
    """
    n_rows = len(generators)
    index = np.minimum(np.arange(group_size), n_rows - 1)
    batch = {name: torch.from_numpy(value[index]) for name, value in observation.items()}
    padding = [torch.Generator()] * (group_size - n_rows)
    with torch.inference_mode():
        chunk = policy.predict(batch, generator=[*generators, *padding])  # [group_size, H, A]
    return chunk[:n_rows].float().cpu().numpy()
