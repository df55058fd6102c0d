"""The last To observations, as the policy is shown them."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.deploy.types import Arrays


class RecentObservations:
    """The last To observations of one robot; the first one is repeated until there are To.

    Arrays are kept as they are: nobody may write into them afterwards.

    >>> recent = RecentObservations(3)
    >>> for number in (7.0, 8.0):
    ...     recent.push({"x": np.array([number])})
    >>> recent.stacked()["x"].tolist()
    [[7.0], [7.0], [8.0]]
    """

    def __init__(self, n_obs_steps: int) -> None:
        self._frames: deque[Arrays] = deque(maxlen=n_obs_steps)
        self._n_obs_steps = n_obs_steps

    def push(self, observation: Arrays) -> None:
        """Add the newest observation {name: [*shape]}."""
        missing = 0 if self._frames else self._n_obs_steps - 1
        self._frames.extend([observation] * (missing + 1))

    def clear(self) -> None:
        """Begin anew: what was seen before a gap is no past of what comes after it."""
        self._frames.clear()

    def stacked(self) -> "StackedObservations":
        """{name: [To, *shape]}, oldest first. Raises ValueError if there is no observation."""
        if not self._frames:
            raise ValueError("there is no observation yet: push one first")
        return StackedObservations(self._frames)


class StackedObservations(Mapping[str, NDArray[Any]]):
    """{name: [To, *shape]}; stacked where an entry is looked at first, which is where the chunk is
    computed: the control thread copies no pictures. Other processes are sent the stacks."""

    def __init__(self, frames: Sequence[Arrays]) -> None:
        self._frames = tuple(frames)
        self._stacked: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._stacked:
            self._stacked[name] = np.stack([frame[name] for frame in self._frames])
        return self._stacked[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._frames[-1])

    def __len__(self) -> int:
        return len(self._frames[-1])

    def __reduce__(self) -> tuple[type[dict[str, NDArray[Any]]], tuple[dict[str, NDArray[Any]]]]:
        return dict, (dict(self),)
