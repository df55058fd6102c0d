"""A video of what went wrong: failed episodes run once more, with a camera.

An episode is a function of its seed, so that it is the same one: nothing has to be filmed before it
is known to fail.
"""

import warnings
from collections import Counter
from collections.abc import Sequence

from dipole.envs.evaluation.episodes import EpisodeRun
from dipole.envs.evaluation.results import EpisodeResult


def failed_episodes(
    results: Sequence[EpisodeResult], asked: int | None, tasks: int
) -> list[EpisodeResult]:
    """The first failures: so many, of each task where there are several. Where any episode tells
    of success, one that tells nothing has failed."""
    if all(result.success is None for result in results):
        return []
    each = (8 if tasks < 2 else 1) if asked is None else asked
    taken: Counter[str | None] = Counter()
    chosen = []
    for result in results:
        task = result.task if tasks > 1 else None
        if not result.success and taken[task] < each:
            taken[task] += 1
            chosen.append(result)
    return chosen


def film_failures(
    run: EpisodeRun,
    results: Sequence[EpisodeResult],
    asked: int | None,
    tasks: int,
    n_slots: int,
    stride: int,
) -> None:
    """Run the chosen ones with a camera; warns where they are not what they were.

    asked, tasks: As `failed_episodes` takes them. n_slots, stride: As `EpisodeRun.finish` does.
    """
    if all(result.success is None for result in results):
        warnings.warn("no episode says whether it succeeded: no failures to film", stacklevel=3)
    episodes = failed_episodes(results, asked, tasks)
    seeds = [episode.seed for episode in episodes]
    again = run.finish(seeds, min(n_slots, len(seeds)), len(seeds), stride)
    other = [str(a.seed) for a, b in zip(again, episodes, strict=True) if a != b]
    if other:
        warnings.warn(
            f"run again, the episodes of seeds {', '.join(other)} came out differently: the "
            "simulator is no function of its seed, and the video shows other episodes than those "
            "that were counted",
            stacklevel=3,
        )
