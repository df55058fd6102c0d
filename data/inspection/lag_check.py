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
TIMES = 10.0  # or how many times nearer to 1 its correlation must be,
ROUNDING = 1e-5  # where that of a lead of one frame is farther from 1 than this
MOST_PAIRS = 400  # of columns without names that are compared
LEAST_FRAMES = 200  # in all, for a correlation to say something


@dataclass
class _State:
    """A state's columns against the action's, and sums over all episodes.

    pairs: [P, 2], a column of the action and one of the state each. same: [K + 1, P], whether the
    action has been the state of 0..K frames before in every frame. products: for each lead -K..K,
    [2 K + 1, A, S]. action_energy, state_energy: of the frames of each product, [2 K + 1, A] and
    [2 K + 1, S]. frames: of each product, [2 K + 1].
    """

    pairs: np.ndarray
    same: np.ndarray
    products: np.ndarray
    action_energy: np.ndarray
    state_energy: np.ndarray
    frames: np.ndarray

    @classmethod
    def of(cls, pairs: np.ndarray, most: int, n_action: int, n_state: int) -> "_State":
        """Before any episode. most: K; n_action, n_state: A and S."""
        leads = 2 * most + 1
        return cls(
            pairs,
            np.ones((most + 1, len(pairs)), bool),
            np.zeros((leads, n_action, n_state)),
            np.zeros((leads, n_action)),
            np.zeros((leads, n_state)),
            np.zeros(leads, np.int64),
        )

    def add(self, action: np.ndarray, state: np.ndarray) -> None:
        """An episode's numbers, [n, A] and [n, S]."""
        for lag, same in enumerate(self.same):
            kept = np.flatnonzero(same)
            ours, theirs = self.pairs[kept].T
            same[kept] = (action[lag:, ours] == state[: max(len(state) - lag, 0), theirs]).all(0)
        self._add_velocities(np.diff(action, axis=0), np.diff(state, axis=0))

    def _add_velocities(self, action: np.ndarray, state: np.ndarray) -> None:
        most = len(self.products) // 2
        for place, lead in enumerate(range(-most, most + 1)):
            if abs(lead) < len(action):
                earlier = action[max(-lead, 0) : len(action) - max(lead, 0)]
                later = state[max(lead, 0) : len(state) - max(-lead, 0)]
                self.products[place] += earlier.T @ later
                self.action_energy[place] += (earlier**2).sum(0)
                self.state_energy[place] += (later**2).sum(0)
                self.frames[place] += len(earlier)

    def identical(self) -> np.ndarray:
        """By how many frames each pair's action lags behind its state, of pairs in which it is the
        state to the last bit: int [P']."""
        most = len(self.products) // 2
        moves = (self.action_energy[most] > 0)[self.pairs[:, 0]]
        same = self.same & self._seen()[most::-1, None] & moves
        return np.asarray(same.argmax(0)[same.any(0)])

    def _seen(self) -> np.ndarray:
        """For which leads half of the frames or more have both numbers, bool [2 K + 1]."""
        return np.asarray(self.frames * 2 >= max(self.frames.max(), 1))

    def clear(self) -> np.ndarray:
        """Correlations [P', 2 K + 1] of the pairs that are the same quantity for some lead."""
        action, state = self.pairs.T
        one, other = self.action_energy[:, action], self.state_energy[:, state]
        middle = len(self.products) // 2
        larger, smaller = np.maximum(one, other)[middle], np.minimum(one, other)[middle]
        sized = (smaller * SAME_SIZE**2 >= larger) & (smaller > 0)
        energy = np.sqrt(one * other)[:, sized]
        seen = self._seen()[:, None] & (energy > 0)
        alike = self.products[:, action[sized], state[sized]] / np.where(seen, energy, np.inf)
        return np.asarray(alike[:, alike.max(0, initial=0) > LIKE].T)


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
            self._states[state.name] = _State.of(np.array(pairs), self._most, *sizes)

    def add(self, start: int, numbers: Mapping[str, np.ndarray]) -> None:
        for name, state in self._states.items():
            state.add(numbers["action"], numbers[name])
        self._frames += len(numbers["action"]) if self._states else 0

    def warnings(self) -> Iterator[tuple[str, str]]:
        if self._frames < LEAST_FRAMES:
            return
        message = self._identical() or self._correlated()
        if message:
            yield "action", message

    def _identical(self) -> str:
        """What is said where the action is a state to the last bit; "" where it is not."""
        lags = {name: state.identical() for name, state in self._states.items()}
        every = np.concatenate([*lags.values(), np.zeros(0, int)])
        if not len(every):
            return ""
        lag = int(np.bincount(every).argmax())
        states = ", ".join(repr(name) for name, found in lags.items() if lag in found)
        return self._message(-lag, states, counted(int((every == lag).sum()), "dimension"))

    def _correlated(self) -> str:
        """What is said of the lead at which velocities are most alike; "" where it is sound."""
        clear = {name: state.clear() for name, state in self._states.items()}
        clear = {name: alike for name, alike in clear.items() if len(alike)}
        if not clear:
            return ""
        every = np.concatenate(list(clear.values()))
        alike = every.mean(0)
        best = int(np.argmax(alike))
        if not _is_clear(alike[best], alike[self._most + 1]):
            return ""
        states = ", ".join(map(repr, clear))
        return self._message(best - self._most, states, counted(len(every), "dimension"))

    def _message(self, lead: int, states: str, dimensions: str) -> str:
        if lead == 0:
            return (
                f"the action is the state {states} of the same frame in {dimensions}: a policy "
                "learns to stay where it is. Take the state of the next frame as the action: "
                "dipole data convert --shift action=1"
            )
        if lead < 0:
            frames = counted(-lead, "frame")
            return (
                f"the action lags {frames} behind the state {states} in {dimensions}: it is where "
                f"the robot was. Shift it (dipole data convert --shift action={1 - lead}), or mend "
                "the time stamps that it was joined by"
            )
        if lead == self._most:
            return (
                f"the action leads the state {states} by {self._recording.seconds(lead)} or more "
                f"in {dimensions}: are the time stamps of both the same clock's?"
            )
        return ""


def _is_clear(best: float, next_frame: float) -> bool:
    """Whether a correlation is clearly better than that of a lead of one frame.

    Smooth motions are like themselves a frame later; there the differences from 1 are compared,
    which grow with the square of the lag.
    """
    if best - next_frame >= CLEAR:
        return True
    return bool(1 - next_frame > max(TIMES * (1 - best), ROUNDING))


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
