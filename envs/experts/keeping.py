"""Which demonstrations are kept, and how many of each kind there were."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dipole.data.core.errors import ConfigError
from dipole.data.recording.record import Demonstration
from dipole.envs.rollout import RolloutError

KEEP = ("success", "all")
NAMED = 8  # seeds that are named in a message


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
    """What came of a recording. steps: of all episodes."""

    kept: int = 0
    failed: list[int] = field(default_factory=list)  # seeds, of those that are kept too
    short: list[int] = field(default_factory=list)  # seeds
    steps: int = 0

    def describe(self) -> str:
        """For a person: "3 failed (seeds 4, 9, 11), none too short"."""
        return f"{_counted(self.failed)} failed, {_counted(self.short)} too short"


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
        if not short and (each.success or spec.keep == "all"):
            in_a_row = 0
            tally.kept += 1
            yield each
            if tally.kept == spec.episodes:
                return
            continue
        in_a_row += 1
        if in_a_row == spec.max_failures:
            raise RolloutError(
                f"{in_a_row} demonstrations in a row failed or were too short, up to seed "
                f"{each.seed} ({tally.kept} were kept before): look at them with keep=all, or "
                "allow more by max_failures"
            )


def _count(each: Demonstration, spec: KeepSpec, tally: Tally) -> None:
    tally.steps += len(each) + (each.prelude_steps or 0)
    if len(each) and each.success is None and spec.keep == "success":
        raise ConfigError(
            f"the environment does not say whether the episode of seed {each.seed} succeeded: "
            "name the entry of its info that does by task.environment.success, or keep all "
            "episodes by keep=all"
        )
    if len(each) < spec.minimum:
        tally.short.append(each.seed)
    elif each.success is False:
        tally.failed.append(each.seed)


def _counted(seeds: list[int]) -> str:
    if not seeds:
        return "none"
    named = ", ".join(map(str, seeds[:NAMED])) + (", ..." if len(seeds) > NAMED else "")
    return f"{len(seeds)} (seed{'s' if len(seeds) > 1 else ''} {named})"
