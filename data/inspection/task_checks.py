"""Words of tasks that are missing in some episodes, or are written in two ways."""

from collections.abc import Iterator

import numpy as np

from dipole.data.core.episode_numbers import format_episode_numbers
from dipole.data.inspection.findings import frame_text
from dipole.data.store.tasks import TaskTable

MOST_EPISODES = 20  # that are listed


def task_warnings(tasks: TaskTable, ends: np.ndarray) -> Iterator[str]:
    """What is odd about the words; nothing where none are recorded."""
    if not tasks.recorded:
        return
    wordless = [number for number, words in enumerate(tasks.words) if not words.strip()]
    empty = tasks.spans[np.isin(tasks.spans[:, 1], wordless), 0]
    if len(empty):
        episodes = np.unique(np.searchsorted(ends, empty, side="right"))
        listed = format_episode_numbers(episodes[:MOST_EPISODES].tolist())
        more = " and more" if len(episodes) > MOST_EPISODES else ""
        yield (
            f"{len(episodes)} of {len(ends)} episodes have frames without words for their task "
            f"({listed}{more}), the first is {frame_text(int(empty[0]), ends)}: give them words, "
            "or leave them out of a policy that is told its task"
        )
    seen: dict[str, str] = {}
    for words in tasks.words:
        plain = " ".join(words.casefold().rstrip(".! ").split())
        if plain in seen:
            yield (
                f"the tasks {seen[plain]!r} and {words!r} are counted as two: write them alike if "
                "they are one"
            )
        seen.setdefault(plain, words)
