"""What was to be done, in words: for each episode, or for spans of its frames.

meta/task_index   [episodes]   the first task of each episode, a number in the attribute `tasks`
meta/task_spans   [spans, 2]   first frame in the dataset and task of every span; only where a
                               task changes within an episode
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError

# Of one episode: first frame of each span, counted in the episode, and its words; the first span
# begins at 0. Empty where no words are recorded.
TaskSpans = tuple[tuple[int, str], ...]


def check_spans(where: str, task: "str | Iterable[Sequence[Any]]", n_frames: int) -> TaskSpans:
    """The spans of an episode of `n_frames`; neighbours of the same words become one.

    task: its words, "" where there are none, or spans (first frame, words). Raises DataError,
    beginning with `where`, for spans that do not begin at 0, increase and end within the episode.
    """
    if isinstance(task, str):
        return ((0, task),) if task else ()
    spans: list[tuple[int, str]] = []
    for span in task:
        sound = len(span) == 2 and isinstance(span[1], str) and not isinstance(span[0], bool)
        if not sound or not isinstance(span[0], int | np.integer):
            raise DataError(f"{where}: task span {span!r}; (first frame, words) is needed")
        first, words = int(span[0]), str(span[1])
        lowest = spans[-1][0] + 1 if spans else 0
        if first < lowest or first >= n_frames or (not spans and first):
            raise DataError(
                f"{where}: a task span begins at frame {first}; the first begins at 0, the others "
                f"one after another within {n_frames} frames"
            )
        spans.append((first, words))
    kept = [span for n, span in enumerate(spans) if not n or span[1] != spans[n - 1][1]]
    return () if kept == [(0, "")] else tuple(kept)


@dataclass(frozen=True)
class TaskTable:
    """The tasks of all episodes.

    words: each once; index: number of each episode's first task, int64 [episodes]; spans: int64
    [S, 2], first frame in the dataset and number of the task, of all episodes.
    """

    words: tuple[str, ...]
    index: np.ndarray
    spans: np.ndarray

    @classmethod
    def of(cls, spans: Sequence[TaskSpans], ends: Sequence[int] | np.ndarray) -> "TaskTable":
        """From the spans of each episode; ends: of the episodes, exclusive."""
        starts = [0, *ends][: len(spans)]
        whole = [episode or ((0, ""),) for episode in spans]
        words = tuple(dict.fromkeys(words for episode in whole for _, words in episode))
        number = {word: n for n, word in enumerate(words)}
        rows = [
            (int(start) + first, number[word])
            for start, episode in zip(starts, whole, strict=True)
            for first, word in episode
        ]
        index = np.array([number[episode[0][1]] for episode in whole], np.int64)
        return cls(words, index, np.array(rows, np.int64).reshape(-1, 2))

    @property
    def recorded(self) -> bool:
        """Whether there are any words."""
        return any(self.words)

    @property
    def changes(self) -> bool:
        """Whether a task changes within an episode."""
        return len(self.spans) > len(self.index)

    def of_episode(self, episode: int, start: int, stop: int) -> TaskSpans:
        """The spans of the episode whose frames are [start, stop)."""
        first, last = np.searchsorted(self.spans[:, 0], [start, stop])
        spans = tuple(
            (int(frame) - start, self.words[number]) for frame, number in self.spans[first:last]
        )
        return () if spans == ((0, ""),) else spans

    def by_frame(self, n_frames: int) -> np.ndarray:
        """The number of each frame's task, int64 [frames]."""
        lengths = np.diff(self.spans[:, 0], append=n_frames)
        return np.repeat(self.spans[:, 1], lengths)


def spans_problem(
    words: Sequence[str], index: np.ndarray, spans: np.ndarray, starts: np.ndarray, n_frames: int
) -> str | None:
    """What is wrong with a dataset's meta/task_spans, or None."""
    first, number = spans[:, 0], spans[:, 1]
    if not len(spans) or first[0] != 0 or (np.diff(first) <= 0).any() or first[-1] >= n_frames:
        return f"their first frames must increase from 0 and be below {n_frames}"
    outside = np.flatnonzero((number < 0) | (number >= len(words)))
    if len(outside):
        return f"task {number[outside[0]]} at frame {first[outside[0]]}: there are {len(words)}"
    at = np.searchsorted(first, starts)
    absent = (at >= len(first)) | (first[np.minimum(at, len(first) - 1)] != starts)
    if absent.any():
        return f"no span begins with episode {int(absent.argmax())}"
    other = number[at] != index
    if other.any():
        return f"the first task of episode {int(other.argmax())} is not that of meta/task_index"
    return None
