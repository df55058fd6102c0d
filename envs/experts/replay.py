"""Whether recorded demonstrations still do what they did, in the simulator as it is now.

Each episode is begun from its recorded seed, and its recorded actions are executed, those that were
executed rather than those that were wanted. What is observed is compared with what was recorded.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.recording.record import ACTION, EXECUTED
from dipole.data.store.metadata import DELTA, actions_of
from dipole.data.store.numbers import PRELUDE, SEED, SUCCESS
from dipole.data.store.store import EpisodeStore
from dipole.envs.contract import EnvSpec
from dipole.envs.errors import DivergedError, errors_naming
from dipole.envs.experts import find_expert
from dipole.envs.experts.processes import ordered
from dipole.envs.experts.recorded import RecordedKeys
from dipole.envs.experts.recorder import ATTRIBUTE
from dipole.envs.experts.task_environment import TaskEnvironment
from dipole.envs.registry import make_env, stored_names

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Deviation:
    """Of one key in one episode.

    largest: Between a recorded number and the one that is observed now, in the key's units;
        infinite where one of them alone is NaN.
    frame: The first at which it exceeds the tolerance; None for none.
    """

    largest: float = 0.0
    frame: int | None = None


@dataclass(frozen=True)
class ReplayedEpisode:
    """What came of an episode.

    success: Now; None where the environment does not say.
    recorded: Success as it is recorded; None where it is not.
    n_frames: Recorded actions; executed: of which so many were, until the episode was over.
    deviations: By stored key.
    """

    episode: int
    seed: int
    success: bool | None
    recorded: bool | None
    n_frames: int
    executed: int
    deviations: Mapping[str, Deviation] = field(default_factory=dict)

    @property
    def is_lost(self) -> bool:
        """Whether it succeeded, as far as is recorded, and does not any more, or nobody says so."""
        if self.success is None:
            return self.recorded is True
        return self.recorded is not False and not self.success

    @property
    def first_frame(self) -> int | None:
        """The first that deviates, of any key, or at which the episode was over too early."""
        frames = [each.frame for each in self.deviations.values() if each.frame is not None]
        if self.executed < self.n_frames:
            frames.append(self.executed)
        return min(frames, default=None)


@dataclass(frozen=True)
class ReplaySpec:
    """What is replayed where.

    dataset: Its path.
    environment: The simulator, with all its settings.
    keys: {stored key: entry of its observation} that are compared.
    tolerance: Of a number, in its units. Raises ConfigError for one that no number can exceed, or
        that each does.
    """

    dataset: Path | str
    environment: EnvSpec
    keys: Mapping[str, str]
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < math.inf:
            raise ConfigError(
                f"tolerance is {self.tolerance}: a finite number, at least 0, is needed"
            )


class Replay:
    """Replays episodes of one dataset in one environment, which is kept from one to the next."""

    def __init__(self, spec: ReplaySpec) -> None:
        self.spec = spec
        self._store = store = EpisodeStore.open(spec.dataset)
        self._keys = RecordedKeys(spec.keys)
        self._numbers = store.episode_numbers()
        make = functools.partial(make_env, spec.environment, observation=self._keys.asked)
        self._environment = TaskEnvironment(make, spec.environment)

    def close(self) -> None:
        """Close the simulator and the dataset."""
        self._environment.environment.close()
        self._store.close()

    def __call__(self, episode: int) -> ReplayedEpisode:
        """Raises ConfigError where the simulator's observation has no such entries, DataError for
        recorded frames of another shape, RolloutError where the simulator raises; all name it."""
        where = f"episode {episode} (seed {int(self._numbers[SEED][episode])})"
        with errors_naming(where):
            return self._replayed(episode)

    def _replayed(self, episode: int) -> ReplayedEpisode:
        store, environment = self._store, self._environment
        frames = slice(int(store.episode_starts[episode]), int(store.episode_ends[episode]))
        actions = store[EXECUTED if EXECUTED in store else ACTION][frames]
        recorded = {key: store[key][frames] for key in self.spec.keys}
        seed = int(self._numbers[SEED][episode])
        compared = {key: _Compared(key, self.spec.tolerance) for key in recorded}
        observation, _ = environment.reset(seed=seed)
        success: bool | None = None
        executed, over = 0, False
        for frame, action in enumerate(actions):
            for key, seen in self._keys.read(observation).items():
                compared[key].add(frame, recorded[key][frame], seen)
            try:
                observation, _, terminated, truncated, info = environment.step(action)
            except DivergedError:  # executed it was not, and what was before it is no success
                success = False
                break
            executed, over = executed + 1, terminated or truncated
            if (said := info.get("is_success")) is not None:
                success = bool(success) or bool(said)
            if over:
                break
        before = self._numbers.get(SUCCESS)
        return ReplayedEpisode(
            episode,
            seed,
            success,
            None if before is None else bool(before[episode]),
            len(actions),
            executed,
            {key: each.deviation for key, each in compared.items()},
        )


def demonstrated_in(environment: EnvSpec) -> EnvSpec:
    """With the options that demonstrations are made with, where somebody makes some."""
    try:
        return find_expert(None, environment).demonstrating_in(environment)
    except ConfigError:
        return environment


def replay(
    spec: ReplaySpec, episodes: Sequence[int], workers: int = 0
) -> Iterator[ReplayedEpisode]:
    """In the order of `episodes`, however many processes replay them."""
    with ExitStack() as stack:
        if workers < 1:
            here = Replay(spec)
            stack.callback(here.close)
            yield from map(here, episodes)
        else:
            make = functools.partial(Replay, spec)
            yield from stack.enter_context(ordered(make, episodes, workers, "episode"))


def check_replayable(store: EpisodeStore, episodes: Sequence[int]) -> None:
    """Raise DataError where nothing says how the episodes began."""
    numbers = store.episode_numbers()
    if SEED not in numbers:
        raise DataError(
            f"{store.path}: its episodes have no recorded seeds (meta/seed), so that nothing says "
            "where they began. `dipole record` writes them, since it also writes the actions that "
            "were executed: record the demonstrations anew. (Beginning from recorded states of "
            "the simulator is not possible yet.)"
        )
    prelude = numbers.get(PRELUDE, np.zeros(store.n_episodes, np.int64))
    late = [episode for episode in episodes if prelude[episode] > 0]
    if late:
        raise DataError(
            f"{store.path}: episode {late[0]} begins where a policy had got to, "
            f"{prelude[late[0]]} steps after its seed's start"
            + (f", and {len(late) - 1} others so too" if len(late) > 1 else "")
            + ": only episodes that begin at the start can be replayed (--episodes)"
        )


def recorded_settings(store: EpisodeStore) -> Any:
    """The environment with its settings, as a recording says it; None where it is not said, such as
    where datasets were joined in which it is not the same."""
    recording = store.attributes.get(ATTRIBUTE)
    return recording.get("environment") if isinstance(recording, dict) else None


def recorded_environment(
    store: EpisodeStore, given: EnvSpec | None = None, python: str | None = None
) -> EnvSpec:
    """The environment that a dataset was recorded in, with the settings that it records, or else
    those that demonstrations are made with.

    given: Another, or the same by name. python: The interpreter that has it; None: this one.
    Raises ConfigError where the dataset does not say it, and for a module or an interpreter that
    only the dataset names: what a file names is never started.
    """
    settings = recorded_settings(store)
    said = settings if settings is not None else store.environment.get("id")
    spec = EnvSpec.read(said) if said else None
    if given is not None:
        same = settings is not None and spec is not None and given == EnvSpec(spec.id)
        chosen = (
            _without_interpreter(spec)
            if spec and same
            else demonstrated_in(_with_actions(given, store))
        )
        return replace(chosen, python=python)
    if spec is None:
        raise ConfigError(
            f"{store.path}: does not say which simulator it was recorded in: give --task NAME or "
            "--environment NAME"
        )
    if spec.module is not None:
        raise ConfigError(
            f"{store.path}: was recorded in {spec.id!r}, and a module that a file names is not "
            f"imported: give --environment {spec.id}"
        )
    if spec.python is not None and python is None:
        raise ConfigError(
            f"{store.path}: was recorded by the interpreter {spec.python}, and what a file names "
            f"is not started: give --python {spec.python}"
        )
    found = _without_interpreter(spec)
    if settings is None:
        found = demonstrated_in(_with_actions(found, store))
    return replace(found, python=python)


def _with_actions(spec: EnvSpec, store: EpisodeStore) -> EnvSpec:
    """With the kind of actions that the dataset says, where its other settings are not known."""
    if spec.id != store.environment.get("id") or actions_of(store.environment) == DELTA:
        return spec
    return replace(spec, options={"actions": actions_of(store.environment), **spec.options})


def _without_interpreter(spec: EnvSpec) -> EnvSpec:
    settings = spec.to_dict()
    return EnvSpec.read({k: v for k, v in settings.items() if k != "python"})


def compared_keys(
    store: EpisodeStore,
    spec: EnvSpec,
    wanted: Sequence[str] | None = None,
    known: Mapping[str, str] | None = None,
    pictures: bool = False,
) -> dict[str, str]:
    """{stored key: entry} of what is compared: by default all that is recorded but pictures.

    wanted: Stored keys. known: Their entries, where the task or the dataset says them.
    Raises DataError for a key that the dataset has not.
    """
    recording: Any = store.attributes.get(ATTRIBUTE)
    own = recording.get("keys", {}) if isinstance(recording, dict) else {}
    names = {**stored_names(spec), **own, **(known or {})}
    if wanted is not None:
        return {key: names.get(key, key) for key in wanted if store[key] is not None}
    chosen = [key for key in ({**own, **(known or {})} or store.keys()) if key in store]
    return {
        key: names.get(key, key)
        for key in chosen
        if key not in (ACTION, EXECUTED)
        and (pictures or store.schema(key)["kind"] not in ("image", "depth"))
    }


class _Compared:
    """How far one key has deviated so far."""

    def __init__(self, key: str, tolerance: float) -> None:
        self._key, self._tolerance = key, tolerance
        self.deviation = Deviation()

    def add(self, frame: int, recorded: np.ndarray, seen: np.ndarray) -> None:
        if recorded.shape != seen.shape:
            raise DataError(
                f"{self._key!r}: recorded with shape {list(recorded.shape)}, and the simulator "
                f"gives {list(seen.shape)}"
            )
        away = _largest(recorded.astype(np.float64), seen.astype(np.float64))
        before = self.deviation
        first = before.frame
        if first is None and away > self._tolerance:
            first = frame
        self.deviation = Deviation(max(before.largest, away), first)


def _largest(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference of two arrays; what is NaN in both does not differ."""
    differ = (one != other) & ~(np.isnan(one) & np.isnan(other))
    away = np.abs(one[differ] - other[differ])
    return float(np.where(np.isnan(away), np.inf, away).max(initial=0.0))
