"""Which demonstrations are kept, and how many of each kind there were."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.recording.record import ACTION, Demonstration
from dipole.envs.rollout import RolloutError

KEEP = ("success", "all")
NAMED = 8  # seeds that are named in a message
MANY_SHORT = 0.03  # share of episodes that are left out as too short, from which it is said
ROUNDING = 1e-5  # of a bound, by which an action may exceed it


@dataclass(frozen=True)
class KeepSpec:
    """Which demonstrations are kept.

    episodes: How many; None: as many as come.
    keep: "success", or "all", failures too.
    minimum: Shorter ones are left out, frames.
    max_failures: So many in a row that fail or are too short are an error; None: never.
    """

    episodes: int | None = None
    keep: str = "success"
    minimum: int = 1
    max_failures: int | None = None


@dataclass
class Tally:
    """What came of a recording.

    failed: Seeds, of those that are kept too. short: Seeds. steps: Of all episodes.
    broken: Seeds of those that ended because the simulator's state or a policy's actions were not
        finite; none of them is kept.
    tasks: How many were kept of each task, where there are several.
    bounds: Lowest and highest action [A]. frames: That are kept; beyond: of which the action is not
        within the bounds.
    shortest: Frames of the shortest episode that succeeded and was left out; None: there is none.
    """

    kept: int = 0
    failed: list[int] = field(default_factory=list)
    short: list[int] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    steps: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    bounds: tuple[Any, Any] = (-np.inf, np.inf)
    frames: int = 0
    beyond: int = 0
    shortest: int | None = None

    def describe(self) -> str:
        """For a person: "3 (seeds 4, 9, 11) failed, none too short"."""
        said = f"{_counted(self.failed)} failed, {_counted(self.short)} too short"
        if self.broken:
            said += f", {_counted(self.broken)} ended in a state or an action that is not finite"
        return said + self._tasks()

    def notes(self) -> list[str]:
        """What a person may not expect of the episodes that are kept, a text each."""
        notes = []
        many = len(self.short) > MANY_SHORT * (self.kept + len(self.short))
        if many and self.shortest is not None:
            notes.append(
                f"{len(self.short)} episodes are left out because they are short, often those that "
                f"begin near the goal: minimum={self.shortest} keeps all that succeeded"
            )
        if self.beyond:
            notes.append(
                f"{self.beyond / self.frames:.1%} of the actions are beyond the bounds of the "
                "environment's action_space, and are recorded as they were wanted"
            )
        return notes

    def count_beyond(self, actions: np.ndarray) -> None:
        """Count an episode's actions [T, *shape] and those that are not within the bounds."""
        low, high = (np.asarray(bound, np.float64) for bound in self.bounds)
        below = actions.reshape(len(actions), -1) < low - ROUNDING * (1 + np.abs(low))
        above = actions.reshape(len(actions), -1) > high + ROUNDING * (1 + np.abs(high))
        self.frames += len(actions)
        self.beyond += int((below | above).any(axis=1).sum())

    def _tasks(self) -> str:
        if len(self.tasks) < 2:
            return ""
        fewest = min(self.tasks, key=lambda task: self.tasks[task])
        least, most = self.tasks[fewest], max(self.tasks.values())
        each = str(most) if least == most else f"{least} ({fewest}) to {most}"
        return f"; {len(self.tasks)} tasks, {each} of each"


def kept(
    demonstrations: Iterable[Demonstration], spec: KeepSpec, tally: Tally
) -> Iterator[Demonstration]:
    """Those that are kept, until there are enough of them. Adds to the tally.

    Raises RolloutError after too many failures in a row, and ConfigError where it is success that
    decides and nobody says whether there is any.
    """
    in_a_row = 0
    for each in demonstrations:
        _count(each, spec, tally)
        short = len(each) < spec.minimum
        if not short and not each.broken and (each.success or spec.keep == "all"):
            in_a_row = 0
            tally.kept += 1
            tally.tasks[each.task] += 1
            tally.count_beyond(each.frames[ACTION])
            yield each
            if tally.kept == spec.episodes:
                return
            continue
        in_a_row += 1
        if in_a_row == spec.max_failures:
            raise RolloutError(
                f"{in_a_row} demonstrations in a row failed or were too short, up to seed "
                f"{each.seed}{_why(each)} ({tally.kept} were kept before): look at them with "
                "keep=all, or allow more by max_failures, with resume=true behind those that were "
                "kept"
            )


def _count(each: Demonstration, spec: KeepSpec, tally: Tally) -> None:
    if each.broken:
        tally.broken.append(each.seed)
        return
    tally.tasks[each.task] += 0
    tally.steps += len(each) + (each.prelude_steps or 0)
    if len(each) and each.success is None and spec.keep == "success":
        raise ConfigError(
            f"the environment does not say whether the episode of seed {each.seed} succeeded: "
            "name the entry of its info that does by task.environment.success, or keep all "
            "episodes by keep=all"
        )
    if len(each) < spec.minimum:
        tally.short.append(each.seed)
        if each.success and len(each):
            tally.shortest = min(len(each), tally.shortest or len(each))
    elif each.success is False:
        tally.failed.append(each.seed)


def _why(each: Demonstration) -> str:
    return f": {each.broken}" if each.broken else ""


def _counted(seeds: list[int]) -> str:
    if not seeds:
        return "none"
    named = ", ".join(map(str, seeds[:NAMED])) + (", ..." if len(seeds) > NAMED else "")
    return f"{len(seeds)} (seed{'s' if len(seeds) > 1 else ''} {named})"
