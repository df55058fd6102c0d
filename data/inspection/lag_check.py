"""By how many frames actions lead the state, or lag behind it.

Where actions say where something shall be, the state follows them: the action of frame t is most
like the state of frame t + 1 or some later one. An action that is most like the state of its own
frame, or an earlier one, teaches a policy to stay where it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from dipole.data.inspection.findings import counted
from dipole.data.inspection.recording_checks import Key, Recording

FARTHEST = 0.5  # seconds, and frames where the rate is not known:
FARTHEST_FRAMES = 15
LIKE = 0.9  # correlation of velocities from which on two columns are the same quantity
SAME_SIZE = 2.0  # how much larger the motion of one may be than that of the other
CLEAR = 0.02  # how much better a lag must be than a lead of one frame
MOST_PAIRS = 400  # of columns without names that are compared
LEAST_FRAMES = 200  # in all, for a correlation to say something


@dataclass
class _State:
    """A state's columns against the action's, and sums over all episodes.

    pairs: [P, 2], a column of the action and one of the state each. products: for each lead -K..K,
    [2 K + 1, A, S]. action_energy, state_energy: [A], [S].
    """

    pairs: np.ndarray
    products: np.ndarray
    action_energy: np.ndarray
    state_energy: np.ndarray

    def add(self, action: np.ndarray, state: np.ndarray) -> None:
        """Velocities of an episode, [n, A] and [n, S]."""
        self.action_energy += (action**2).sum(0)
        self.state_energy += (state**2).sum(0)
        most = len(self.products) // 2
        for place, lead in enumerate(range(-most, most + 1)):
            if abs(lead) < len(action):
                earlier = action[max(-lead, 0) : len(action) - max(lead, 0)]
                later = state[max(lead, 0) : len(state) - max(-lead, 0)]
                self.products[place] += earlier.T @ later

    def clear(self) -> np.ndarray:
        """Correlations [P', 2 K + 1] of the pairs that are the same quantity for some lead."""
        action, state = self.pairs.T
        one, other = self.action_energy[action], self.state_energy[state]
        sized = np.minimum(one, other) * SAME_SIZE**2 >= np.maximum(one, other)
        sized &= np.minimum(one, other) > 0
        alike = self.products[:, action[sized], state[sized]]
        alike = alike / np.sqrt(one[sized] * other[sized])
        return np.asarray(alike[:, alike.max(0) > LIKE].T)


class LagCheck:
    """recording: see Recording.

    Columns of the same name are compared; without names those of a state of the action's shape in
    their order, or all whose numbers lie where the action's do, where these are few.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        fps = recording.fps
        self._most = FARTHEST_FRAMES if fps is None else max(round(FARTHEST * fps), 3)
        self._frames = 0
        self._states: dict[str, _State] = {}
        action = recording.keys.get("action")
        if action is not None:
            for key in recording.keys.values():
                self._compare(action, key)

    def _compare(self, action: Key, state: Key) -> None:
        pairs = list(_alike(action, state))
        if pairs:
            sizes = len(action.units), len(state.units)
            products = np.zeros((2 * self._most + 1, *sizes))
            energies = np.zeros(sizes[0]), np.zeros(sizes[1])
            self._states[state.name] = _State(np.array(pairs), products, *energies)

    def add(self, start: int, numbers: Mapping[str, np.ndarray]) -> None:
        for name, state in self._states.items():
            state.add(np.diff(numbers["action"], axis=0), np.diff(numbers[name], axis=0))
        self._frames += len(numbers["action"]) if self._states else 0

    def warnings(self) -> Iterator[tuple[str, str]]:
        clear = {name: state.clear() for name, state in self._states.items()}
        clear = {name: alike for name, alike in clear.items() if len(alike)}
        if not clear or self._frames < LEAST_FRAMES:
            return
        every = np.concatenate(list(clear.values()))
        alike = every.mean(0)
        best = int(np.argmax(alike))
        if alike[best] - alike[self._most + 1] < CLEAR:
            return
        states = ", ".join(map(repr, clear))
        message = self._message(best - self._most, states, counted(len(every), "dimension"))
        if message:
            yield "action", message

    def _message(self, lead: int, states: str, dimensions: str) -> str:
        if lead == 0:
            return (
                f"the action is the state {states} of the same frame in {dimensions}: a policy "
                "learns to stay where it is. Take the state of the next frame as the action"
            )
        if lead < 0:
            frames = counted(-lead, "frame")
            return (
                f"the action lags {frames} behind the state {states} in {dimensions}: it is where "
                "the robot was. Shift it while recording, or mend the time stamps that it was "
                "joined by"
            )
        if lead == self._most:
            return (
                f"the action leads the state {states} by {self._recording.seconds(lead)} or more "
                f"in {dimensions}: are the time stamps of both the same clock's?"
            )
        return ""


def _alike(action: Key, state: Key) -> Iterator[tuple[int, int]]:
    """Columns of the action and of a state that may be the same quantity."""
    if state.kind != "state" or not state.moves:
        return
    named = bool(action.names) and bool(state.names)
    few = len(action.units) * len(state.units) <= MOST_PAIRS
    for column in range(len(action.units)):
        if named:
            same = [i for i, name in enumerate(state.names) if name == action.names[column]]
        elif state.shape == action.shape:
            same = [column]
        else:
            every = range(len(state.units) if few else 0)
            same = [i for i in every if _overlap(action, column, state, i)]
        yield from ((column, other) for other in same)


def _overlap(action: Key, column: int, state: Key, other: int) -> bool:
    """Whether the ranges of two columns have more than half of the larger in common."""
    low = max(action.low[column], state.low[other])
    high = min(action.high[column], state.high[other])
    larger = max(
        action.high[column] - action.low[column], state.high[other] - state.low[other], 1e-12
    )
    return bool(high - low > larger / 2)
