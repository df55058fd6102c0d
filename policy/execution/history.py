"""Observation history and action queue: the memory between a policy and what it moves.

Simulation (`Executor`) and the real-time loop (`dipole.deploy`) share these classes. Importing this
file does not import torch: a robot's computer may have none.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.loading.window_spec import WindowSpec

Observation = Mapping[str, np.ndarray]  # name -> [*shape], or [To, *shape], [B, To, *shape]


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
        """Add the row's newest observation {name: [*shape]}.

        Raises ConfigError where its names are not those of the row's first.
        """
        past = self._rows[row]
        if not past:
            raise ValueError(f"row {row} has no first observation: reset it before appending")
        if changed := past[0].keys() ^ observation.keys():
            name = min(changed)
            how = "is missing now" if name in past[0] else "was missing at first"
            raise ConfigError(
                f"observation {name!r} {how}: what a policy may do without is there in all of an "
                "episode or in none of it; let the simulator give it in every step"
            )
        newest = {name: np.array(value) for name, value in observation.items()}
        self._rows[row] = [*past[1:], newest]

    def alike(self, rows: Sequence[int]) -> list[list[int]]:
        """These rows, divided into those that have observations of the same names."""
        found: dict[frozenset[str], list[int]] = {}
        for row in rows:
            found.setdefault(frozenset(self._newest(row)), []).append(row)
        return list(found.values())

    def stacked(self, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """The rows' observations, oldest first: {name: [len(rows), To, *shape]}.

        Raises ValueError for rows that are not `alike`.
        """
        if len(self.alike(rows)) > 1:
            raise ValueError(f"rows {list(rows)} observe different things: stack what is `alike`")
        return {
            name: np.stack([np.stack([seen[name] for seen in self._rows[row]]) for row in rows])
            for name in self._newest(rows[0])
        }

    def _newest(self, row: int) -> dict[str, np.ndarray]:
        if not self._rows[row]:
            raise ValueError(f"row {row} has no observation: reset it first")
        return self._rows[row][-1]


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

    def remaining(self, row: int) -> list[np.ndarray]:
        """What the row has still to execute, in order, left where it is."""
        return list(self._rows[row])

    def pop(self, row: int) -> np.ndarray:
        """The row's next action [A]. Raises IndexError where there is none."""
        if not self._rows[row]:
            raise IndexError(f"row {row} has no action left: plan for it first")
        return self._rows[row].pop(0)
