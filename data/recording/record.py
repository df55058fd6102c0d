"""Recording demonstrations: an environment's loop, written into an episode store.

The environment and whoever acts in it are given; this file knows neither.
"""

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.numbers import PRELUDE, SEED, SUCCESS
from dipole.data.store.tasks import TaskSpans

ACTION, EXECUTED = "action", "executed_action"  # stored keys

Observation = Mapping[str, Any]
Prelude = Callable[[Observation], np.ndarray | None]
Disturb = Callable[[np.ndarray], np.ndarray]
Read = Callable[[Observation], Mapping[str, Any]]


class Environment(Protocol):
    """The part of gymnasium's interface that recording needs."""

    def reset(self, *, seed: int | None = None) -> tuple[Observation, dict[str, Any]]: ...

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]: ...


class Demonstrator(Protocol):
    """Whoever shows how it is done. reset: before each episode, with its seed."""

    def reset(self, seed: int) -> None: ...

    def act(self, observation: Observation) -> np.ndarray: ...


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode.

    frames: {key: [T, *shape]}, what was observed and the "action" on it; where actions were
        disturbed, also the "executed_action". The state after the last action is not part of it:
        every frame has both.
    success: Whether any step's info said `is_success`; None where none said whether.
    max_reward: The largest of a step, -inf where there was none.
    words: What was to be done, in spans (first frame, words); empty where nobody said it.
    task: Which task of several it was, as info's "task" says; "" where there is one.
    prelude_steps: Steps between the seed's start and the first frame; None without a prelude.
    broken: What became NaN or infinite, of the simulator's state or of a policy's actions: nothing
        of the episode is here. "" where nothing did.
    """

    seed: int
    frames: dict[str, np.ndarray]
    success: bool | None
    max_reward: float
    words: TaskSpans = ()
    task: str = ""
    prelude_steps: int | None = None
    broken: str = ""

    @classmethod
    def not_finite(cls, seed: int, what: str) -> "Demonstration":
        """Of an episode that ended where `what` says: it has failed, and has no frames."""
        return cls(seed, Frames().arrays(), False, -math.inf, broken=what)

    def __len__(self) -> int:
        return len(self.frames[ACTION])  # 0 where the prelude ended the episode

    @property
    def numbers(self) -> dict[str, int]:
        """What is stored of the episode as a whole: its seed, whether it succeeded, and so on."""
        said = {SUCCESS: self.success, PRELUDE: self.prelude_steps}
        return {SEED: self.seed} | {k: int(v) for k, v in said.items() if v is not None}


# Gives each observation, is sent the action [A] upon it, and returns what came of it.
Steps = Generator[Observation, np.ndarray, Demonstration]


def record_episode(
    environment: Environment,
    demonstrator: Demonstrator,
    seed: int,
    disturb: Disturb | None = None,
    prelude: Prelude | None = None,
    read: Read | None = None,
) -> Demonstration:
    """One episode, to its end. See `episode_steps`."""
    steps = episode_steps(environment, seed, demonstrator.reset, disturb, prelude, read)
    action: Any = None
    while True:
        try:
            observation = steps.send(action)
        except StopIteration as ended:
            made: Demonstration = ended.value
            return made
        action = demonstrator.act(observation)


def episode_steps(
    environment: Environment,
    seed: int,
    begin: Callable[[int], object] = lambda seed: None,
    disturb: Disturb | None = None,
    prelude: Prelude | None = None,
    read: Read | None = None,
) -> Steps:
    """One episode for whoever decides when its next action is known.

    begin: called with the seed when the environment is reset.
    prelude: acts first, unrecorded, until it returns None: the demonstration begins where it leads.
    read: what of an observation is recorded, {stored key: array}, where a text is what is to be
        done; None for all of it.
    disturb: turns an action [A] into the one that is executed. "action" is the demonstrator's own,
        so that the data shows how to get back (Laskey et al., 2017, "DART"); what was executed is
        recorded beside it.
    """
    observation, info = environment.reset(seed=seed)
    begin(seed)
    frames = Frames()
    best, over = -math.inf, False
    success: bool | None = None
    before = None if prelude is None else 0
    while prelude is not None and not over and (action := prelude(observation)) is not None:
        observation, _, terminated, truncated, info = environment.step(action)
        before, over = (before or 0) + 1, terminated or truncated
    while not over:
        action = np.asarray((yield observation), dtype=np.float32)
        executed = action if disturb is None else disturb(action)
        frames.add(observation if read is None else read(observation))
        frames.add({ACTION: action} if disturb is None else {ACTION: action, EXECUTED: executed})
        observation, reward, terminated, truncated, info = environment.step(executed)
        best = max(best, float(reward))
        if (said := info.get("is_success")) is not None:
            success = bool(success) or bool(said)
        over = terminated or truncated
    task = info.get("task")
    return Demonstration(
        seed,
        frames.arrays(),
        success,
        best,
        tuple(frames.words),
        task if isinstance(task, str) else "",
        before,
    )


@dataclass
class Frames:
    """The frames of one episode as they come. values: {key: frame [*shape] by frame}; words: (first
    frame, words) wherever they change."""

    values: dict[str, list[np.ndarray]] = field(default_factory=lambda: {ACTION: []})
    words: list[tuple[int, str]] = field(default_factory=list)

    def add(self, seen: Mapping[str, Any]) -> None:
        """Arrays {key: [*shape]}, and words, of the frame whose action is not added yet."""
        for key, value in seen.items():
            if not isinstance(value, str):
                self._append(key, np.array(value))
            elif not self.words or self.words[-1][1] != value:
                self.words.append((len(self.values[ACTION]), value))

    def _append(self, key: str, frame: np.ndarray) -> None:
        frames = self.values.setdefault(key, [])
        first = frames[0] if frames else frame
        if (frame.shape, frame.dtype) != (first.shape, first.dtype):
            raise DataError(
                f"{key!r}: frame {len(frames)} is {frame.dtype} of shape {list(frame.shape)}, and "
                f"the first one {first.dtype} of shape {list(first.shape)}: all have to be alike"
            )
        frames.append(frame)

    def arrays(self) -> dict[str, np.ndarray]:
        """{key: [T, *shape]}."""
        return {key: np.array(value) for key, value in self.values.items()}
