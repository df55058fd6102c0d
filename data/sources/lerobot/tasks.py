"""What was to be done in an episode, in words, frame by frame."""

from collections.abc import Mapping, Sequence

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.tasks import TaskSpans


def task_spans(
    place: str, numbers: np.ndarray | None, words: Mapping[int, str], listed: Sequence[str]
) -> tuple[TaskSpans, list[str]]:
    """The spans of an episode's tasks, and warnings.

    numbers: task_index of each frame, [n], None where there is none.
    words: By number, of the whole dataset.
    listed: The episode's tasks by meta/, in no order; used only where frames say nothing.

    Raises DataError, naming the frame, for a number that has no words.
    """
    if numbers is None or not words:
        return _without_numbers(place, words, list(dict.fromkeys(listed)))
    starts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist()]
    spans: list[tuple[int, str]] = []
    for start in starts:
        number = int(numbers[start])
        if number not in words:
            raise DataError(
                f"{place}, frame {start}: task_index {number}, and meta/ has words for "
                f"{', '.join(map(str, sorted(words)[:8]))}. Add them, or leave the episode out"
            )
        if not spans or spans[-1][1] != words[number]:
            spans.append((start, words[number]))
    return (tuple(spans) if any(text for _, text in spans) else ()), []


def _without_numbers(
    place: str, words: Mapping[int, str], listed: list[str]
) -> tuple[TaskSpans, list[str]]:
    only = listed or list(dict.fromkeys(words.values()))
    if len(only) == 1:
        return (((0, only[0]),) if only[0] else ()), []
    if not listed:
        return (), []
    return (), [
        f"{place}: meta/ says the tasks {', '.join(map(repr, listed))}, but its frames have no "
        "task_index: which are done when is unknown, and no words are taken"
    ]
