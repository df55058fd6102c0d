"""What is in a dataset, for a person to look at and for scripts to read."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dipole.data.loading.window_spec import WindowSpec
from dipole.data.store.numbers import SEED, SUCCESS
from dipole.data.store.store import EpisodeStore


@dataclass(frozen=True)
class ArraySummary:
    """One key: its schema, and how it lies on the disk."""

    key: str
    kind: str
    shape: list[int]  # of one frame
    dtype: str
    units: str | list[str]
    n_bytes: int  # in memory, all frames
    chunk_frames: int


@dataclass(frozen=True)
class DatasetSummary:
    """A dataset at a glance."""

    path: str
    episodes: int
    frames: int
    episode_lengths: dict[str, int]  # shortest, median, longest
    fps: float | None
    environment: dict[str, Any]
    arrays: list[ArraySummary]
    windows: dict[str, int]  # "horizon/n_obs_steps/n_action_steps" -> how many
    fingerprint: str
    tasks: list[str]  # every task in words, those within episodes too; "" where none is recorded
    episodes_of_several_tasks: int
    seeds: list[int] | None  # smallest and largest, where they are recorded
    successes: int | None  # episodes that are recorded as such

    @property
    def seconds(self) -> float | None:
        """How long the recording is, where its frame rate is known."""
        return None if self.fps is None else self.frames / self.fps

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def summarize(
    store: EpisodeStore, spec: WindowSpec | None = None, fingerprint: str | None = None
) -> DatasetSummary:
    """What the store holds, with the number of windows at `spec`, by default 16/2/8.

    Reads three frames of each key for the fingerprint, unless it is given. Raises DataError where
    they cannot be read.
    """
    spec = spec or WindowSpec()
    lengths = np.diff(store.episode_ends, prepend=0)
    named = f"{spec.horizon}/{spec.n_obs_steps}/{spec.n_action_steps}"
    return DatasetSummary(
        path=str(store.path),
        episodes=store.n_episodes,
        frames=store.n_frames,
        episode_lengths={
            "shortest": int(lengths.min()),
            "median": int(np.median(lengths)),
            "longest": int(lengths.max()),
        },
        fps=store.fps,
        environment=store.environment,
        arrays=[_summarize_array(store, key) for key in sorted(store.arrays)],
        windows={named: int(spec.count(lengths).sum())},
        fingerprint=store.fingerprint() if fingerprint is None else fingerprint,
        **_tasks(store),
        **_numbers(store),
    )


def _numbers(store: EpisodeStore) -> dict[str, Any]:
    """What is recorded of whole episodes."""
    numbers = store.episode_numbers()
    seeds, successes = numbers.get(SEED), numbers.get(SUCCESS)
    return {
        "seeds": None if seeds is None else [int(seeds.min()), int(seeds.max())],
        "successes": None if successes is None else int((successes != 0).sum()),
    }


def _tasks(store: EpisodeStore) -> dict[str, Any]:
    """All tasks, and the number of episodes in which the task changes."""
    if not store.task_words:
        return {"tasks": list(dict.fromkeys(store.tasks)), "episodes_of_several_tasks": 0}
    numbers = store.task_numbers()
    starts = np.concatenate([[0], store.episode_ends[:-1]])
    several = np.minimum.reduceat(numbers, starts) != np.maximum.reduceat(numbers, starts)
    later = [store.task_words[number] for number in np.unique(numbers) if number >= 0]
    return {
        "tasks": list(dict.fromkeys([*store.tasks, *later])),
        "episodes_of_several_tasks": int(several.sum()),
    }


def _summarize_array(store: EpisodeStore, key: str) -> ArraySummary:
    array = store[key]
    schema = store.schema(key)
    return ArraySummary(
        key=key,
        **{name: schema[name] for name in ("kind", "shape", "dtype", "units")},
        n_bytes=array.nbytes,
        chunk_frames=array.chunk_length,
    )
