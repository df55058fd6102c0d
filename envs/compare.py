"""Whether one evaluation is better than another by more than chance: episodes paired by seed.

    comparison = compare("runs/a_evaluated", "runs/b_evaluated")
    print(comparison.sentence)

Episodes of one seed start from the same state, so that what differs between them is the policy:
the interval of the mean difference in pairs is narrower than the two scores' own intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.envs.evaluation.metrics import mcnemar_p, mean_interval, wilson_interval
from dipole.envs.evaluation.paired import (
    Estimate,
    TaskDifference,
    differences,
    differences_by_task,
    differences_over_tasks,
    only_one,
)
from dipole.envs.evaluation.results_file import SCORE, SUCCESS, EvaluationResult, read_result

# With fewer pairs even unanimous ones are chance: 2 / 2^5 is above 0.05.
FEWEST_PAIRS = 6
NEITHER, FIRST, SECOND = "neither", "first", "second"


@dataclass(frozen=True)
class Comparison:
    """Two evaluations, the first minus the second.

    first, second: Their metrics.json.
    score_name: What "score" is in this environment.
    pairs: Episodes of both.
    unpaired: Seeds that only one of them has, of the first and of the second.
    means: {"first" | "second": {"score" | "success" | "return": of all its episodes}}.
    differences: {"score" | "success" | "return": over the pairs}.
    only_first, only_second: Pairs in which this one alone succeeded; None without success.
    mcnemar_p: Of them; None without success.
    per_task: {task: the same within it}, where episodes tell which of several tasks they are.
    over_tasks: Mean over the tasks of their differences; none where no task is told.
    better: "first", "second" or "neither", by the score.
    """

    first: str
    second: str
    score_name: str
    pairs: int
    unpaired: tuple[list[int], list[int]]
    means: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Estimate]
    only_first: int | None
    only_second: int | None
    mcnemar_p: float | None
    better: str
    per_task: Mapping[str, TaskDifference] = field(default_factory=dict)
    over_tasks: Mapping[str, Estimate] = field(default_factory=dict)

    def sentence(self, a: str = "A", b: str = "B") -> str:
        """Whether the first, called `a`, beats the second by more than chance, for a person."""
        found, score = self.differences[SCORE], self.score_name
        low, high = found.ci95
        interval = f"{score} {found.value:+.4g} (95 % interval {low:+.4g} to {high:+.4g})"
        over = f"over {self.pairs} {'pair' if self.pairs == 1 else 'pairs'} of episodes"
        if self.better == FIRST:
            return f"{a} beats {b} by more than chance: {interval} {over}."
        if self.better == SECOND:
            return f"{b} beats {a} by more than chance: {a} - {b} is {interval} {over}."
        if self.pairs < FEWEST_PAIRS:
            few = f"at least {FEWEST_PAIRS} are needed"
            return f"Too few episodes to tell {a} from {b}: {interval} {over}; {few}."
        if low == high == 0:
            return f"{a} does not beat {b}: {score} is the same in each pair, {over}."
        return f"{a} does not beat {b} by more than chance, nor {b} {a}: {interval} {over}."

    def to_dict(self, a: str = "A", b: str = "B") -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "sentence": self.sentence(a, b)}


def compare(
    first: EvaluationResult | Path | str,
    second: EvaluationResult | Path | str,
    *,
    force: bool = False,
) -> Comparison:
    """Compare two evaluations in pairs of episodes of one seed.

    first, second: Folders of `dipole evaluate`, their metrics.json, or these as read.
    force: Compare even where the environment, its version or options are others.
    Raises DataError for what is no evaluation, ConfigError for two that cannot be compared.
    """
    one, other = (
        each if isinstance(each, EvaluationResult) else read_result(each)
        for each in (first, second)
    )
    if not force:
        _check_same_environment(one, other)
    if one.score_name != other.score_name:
        raise ConfigError(
            f"the score is {one.score_name} in {one.path} and {other.score_name} in {other.path}: "
            "numbers of different meaning have no difference"
        )
    seeds = [seed for seed in one.seeds if seed in other.episodes]
    if not seeds:
        raise ConfigError(
            f"{one.path} has seeds {_range(one.seeds)}, {other.path} {_range(other.seeds)}: no "
            "episode has a partner; evaluate both with the same seed"
        )
    names = [name for name in one.measures() if name in other.measures()]
    found = differences(one, other, seeds, names)
    only = only_one(one, other, seeds) if SUCCESS in names else None
    per_task = differences_by_task(one, other, seeds, names)
    return Comparison(
        first=str(one.path),
        second=str(other.path),
        score_name=one.score_name,
        pairs=len(seeds),
        unpaired=(_without(one, seeds), _without(other, seeds)),
        means={FIRST: means(one), SECOND: means(other)},
        differences=found,
        only_first=only[0] if only else None,
        only_second=only[1] if only else None,
        mcnemar_p=mcnemar_p(*only) if only else None,
        better=_better(found[SCORE], len(seeds)),
        per_task=per_task,
        over_tasks=differences_over_tasks(one, other, seeds, names) if per_task else {},
    )


def means(result: EvaluationResult) -> dict[str, Estimate]:
    """Score, success and return over all episodes of an evaluation."""
    found = {}
    for name in result.measures():
        values = [result.episodes[seed][name] for seed in result.seeds]
        interval = (
            wilson_interval(round(sum(values)), len(values))
            if result.is_proportion(name)
            else mean_interval(values)
        )
        found[name] = Estimate(float(np.mean(values)), interval)
    return found


def _better(score: Estimate, pairs: int) -> str:
    low, high = score.ci95
    if pairs < FEWEST_PAIRS or low <= 0 <= high:
        return NEITHER
    return FIRST if low > 0 else SECOND


def _check_same_environment(one: EvaluationResult, other: EvaluationResult) -> None:
    """Raise ConfigError unless the episodes are of the same environment, as far as is recorded."""
    mine, theirs = one.environment, other.environment
    for key in sorted(mine.keys() & theirs.keys()):
        if mine[key] != theirs[key]:
            raise ConfigError(
                f"the environment's {key} is {mine[key]!r} in {one.path} and {theirs[key]!r} in "
                f"{other.path}: the episodes are not the same; evaluate both alike, or compare "
                "them all the same by --force"
            )


def _without(result: EvaluationResult, seeds: Sequence[int]) -> list[int]:
    paired = set(seeds)
    return [seed for seed in result.seeds if seed not in paired]


def _range(seeds: Sequence[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
