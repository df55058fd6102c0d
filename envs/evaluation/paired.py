"""Differences of two evaluations in pairs of episodes of one seed: of all, and by task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dipole.envs.evaluation.metrics import (
    holm,
    mcnemar_p,
    mean_interval,
    mean_over_groups_interval,
    paired_proportion_interval,
)
from dipole.envs.evaluation.results_file import SUCCESS, EvaluationResult


@dataclass(frozen=True)
class Estimate:
    """A mean, or a mean difference, with its 95 % interval."""

    value: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class TaskDifference:
    """The first evaluation minus the second in one task of several.

    pairs: Episodes of both.
    first, second: {"score" | "success" | "return": mean over the pairs}.
    differences: {"score" | "success" | "return": over the pairs}.
    mcnemar_p: Of success; None without. holm_p: The same, adjusted for the number of tasks.
    """

    pairs: int
    first: dict[str, float]
    second: dict[str, float]
    differences: dict[str, Estimate]
    mcnemar_p: float | None = None
    holm_p: float | None = None


def differences(
    one: EvaluationResult, other: EvaluationResult, seeds: Sequence[int], names: Sequence[str]
) -> dict[str, Estimate]:
    """Of each measure, first minus second, over these seeds."""
    return {name: _difference(one, name, _pairs(one, other, seeds, name)) for name in names}


def only_one(
    one: EvaluationResult, other: EvaluationResult, seeds: Sequence[int]
) -> tuple[int, int]:
    """Pairs in which the first, and in which the second, alone succeeded."""
    return _only(_pairs(one, other, seeds, SUCCESS))


def differences_by_task(
    one: EvaluationResult, other: EvaluationResult, seeds: Sequence[int], names: Sequence[str]
) -> dict[str, TaskDifference]:
    """{task: of its pairs}, of pairs that tell the same task; none where none does."""
    found = {}
    for task, of_task in _tasks(one, other, seeds).items():
        p = mcnemar_p(*only_one(one, other, of_task)) if SUCCESS in names else None
        found[task] = TaskDifference(
            len(of_task),
            _means(one, of_task, names),
            _means(other, of_task, names),
            differences(one, other, of_task, names),
            p,
        )
    known = {task: each.mcnemar_p for task, each in found.items() if each.mcnemar_p is not None}
    adjusted = dict(zip(known, holm(list(known.values())), strict=True))
    return {task: replace(each, holm_p=adjusted.get(task)) for task, each in found.items()}


def differences_over_tasks(
    one: EvaluationResult, other: EvaluationResult, seeds: Sequence[int], names: Sequence[str]
) -> dict[str, Estimate]:
    """Means of the tasks' mean differences, each task counting the same; pairs are resampled
    within their tasks. Of tasks of one size it is the mean over pairs, and shares have Tango's
    interval, which has a width where no pair differs."""
    groups = list(_tasks(one, other, seeds).values())
    even = len({len(group) for group in groups}) == 1
    found = {}
    for name in names:
        pairs = [_pairs(one, other, group, name) for group in groups]
        if even and one.is_proportion(name):
            found[name] = _difference(one, name, np.concatenate(pairs))
            continue
        value = float(np.mean([np.mean(group) for group in pairs]))
        interval = mean_over_groups_interval([group.tolist() for group in pairs])
        found[name] = Estimate(value, interval)
    return found


def _tasks(
    one: EvaluationResult, other: EvaluationResult, seeds: Sequence[int]
) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for seed in seeds:
        task = one.tasks.get(seed)
        if task is not None and other.tasks.get(seed) == task:
            found.setdefault(task, []).append(seed)
    return dict(sorted(found.items()))


def _pairs(
    one: EvaluationResult, other: EvaluationResult, seeds: Sequence[int], name: str
) -> np.ndarray:
    return np.array([one.episodes[s][name] - other.episodes[s][name] for s in seeds])


def _difference(one: EvaluationResult, name: str, pairs: np.ndarray) -> Estimate:
    if one.is_proportion(name):
        interval = paired_proportion_interval(*_only(pairs), len(pairs))
    else:
        interval = mean_interval(pairs.tolist())
    return Estimate(float(pairs.mean()), interval)


def _means(
    result: EvaluationResult, seeds: Sequence[int], names: Sequence[str]
) -> dict[str, float]:
    return {name: float(np.mean([result.episodes[s][name] for s in seeds])) for name in names}


def _only(pairs: np.ndarray) -> tuple[int, int]:
    return int((pairs > 0).sum()), int((pairs < 0).sum())
