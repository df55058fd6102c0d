"""By how many frames actions lead the state, or lag behind it.

Where actions say where something shall be, the state follows them: the action of frame t is most
like the state of frame t + 1 or some later one. An action that is most like the state of its own
frame, or an earlier one, teaches a policy to stay where it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from dipole.data.inspection.recording_checks import Key, Recording

FARTHEST = 0.5  # seconds, and frames where the rate is not known:
FARTHEST_FRAMES = 15
LIKE = 0.9  # correlation of velocities from which on two columns are the same quantity
SAME_SIZE = 2.0  # how much larger the motion of one may be than that of the other
CLEAR = 0.02  # how much better a lag must be than a lead of one frame
MOST_PAIRS = 400  # of columns without names that are compared
LEAST_FRAMES = 200  # in all, for a correlation to say something


@dataclass
class _Pair:
    """A column of the action and one of a state, and their sums for each lead -K..K."""

    action: int
    state: tuple[str, int]
    products: np.ndarray
    energy: np.ndarray  # [2]: of the action, of the state


@dataclass
class LagCheck:
    """recording: see Recording.

    Columns of the same name are compared; without names those of a state of the action's shape in
    their order, or all whose numbers lie where the action's do, where these are few."""

    recording: Recording
    _pairs: list[_Pair] = field(default_factory=list)

    def __post_init__(self) -> None:
        fps = self.recording.fps
        self._most = FARTHEST_FRAMES if fps is None else max(round(FARTHEST * fps), 3)
        self._frames = 0
        if "action" in self.recording.keys:
            self._pairs = [
                _Pair(column, state, np.zeros(2 * self._most + 1), np.zeros(2))
                for column, state in _alike(self.recording.keys)
            ]

    def add(self, start: int, numbers: Mapping[str, np.ndarray]) -> None:
        self._frames += len(numbers["action"]) if self._pairs else 0
        for pair in self._pairs:
            key, column = pair.state
            action = np.diff(numbers["action"][:, pair.action])
            state = np.diff(numbers[key][:, column])
            pair.energy += [float(action @ action), float(state @ state)]
            for place, lead in enumerate(range(-self._most, self._most + 1)):
                if abs(lead) < len(action):
                    a = action[max(-lead, 0) : len(action) - max(lead, 0)]
                    s = state[max(lead, 0) : len(state) - max(-lead, 0)]
                    pair.products[place] += float(a @ s)

    def warnings(self) -> Iterator[tuple[str, str]]:
        pairs = [pair for pair in self._pairs if self._is_clear(pair)]
        if not pairs or self._frames < LEAST_FRAMES:
            return
        alike = np.mean([_correlations(pair) for pair in pairs], axis=0)
        best = int(np.argmax(alike))
        lead = best - self._most
        if alike[best] - alike[self._most + 1] < CLEAR:
            return
        keys = ", ".join(repr(key) for key in dict.fromkeys(pair.state[0] for pair in pairs))
        if lead == 0:
            yield (
                "action",
                f"the action is the state {keys} of the same frame in {len(pairs)} dimensions: a "
                "policy learns to stay where it is. Take the state of the next frame as the action",
            )
        elif lead < 0:
            yield (
                "action",
                f"the action lags {-lead} frames behind the state {keys} in {len(pairs)} "
                "dimensions: it is where the robot was. Shift it while recording, or mend the time "
                "stamps that it was joined by",
            )
        elif lead == self._most:
            yield (
                "action",
                f"the action leads the state {keys} by {self.recording.seconds(lead)} or more in "
                f"{len(pairs)} dimensions: are the time stamps of both the same clock's?",
            )

    def _is_clear(self, pair: _Pair) -> bool:
        larger, smaller = max(pair.energy), min(pair.energy)
        if smaller <= 0 or larger > SAME_SIZE**2 * smaller:
            return False
        return bool(_correlations(pair).max() > LIKE)


def _correlations(pair: _Pair) -> np.ndarray:
    return np.asarray(pair.products / np.sqrt(np.prod(pair.energy)))


def _alike(keys: Mapping[str, Key]) -> Iterator[tuple[int, tuple[str, int]]]:
    """Columns of the action and of a state that may be the same quantity."""
    action = keys["action"]
    for key in keys.values():
        if key.kind != "state" or not key.moves:
            continue
        named = bool(action.names) and bool(key.names)
        few = len(action.units) * len(key.units) <= MOST_PAIRS
        for column in range(len(action.units)):
            if named:
                same = [i for i, name in enumerate(key.names) if name == action.names[column]]
            elif key.shape == action.shape:
                same = [column]
            else:
                same = [
                    i for i in range(len(key.units)) if few and _overlap(action, column, key, i)
                ]
            yield from ((column, (key.name, other)) for other in same)


def _overlap(action: Key, column: int, state: Key, other: int) -> bool:
    """Whether the ranges of two columns have more than half of the larger in common."""
    low = max(action.low[column], state.low[other])
    high = min(action.high[column], state.high[other])
    larger = max(
        action.high[column] - action.low[column], state.high[other] - state.low[other], 1e-12
    )
    return bool(high - low > larger / 2)
