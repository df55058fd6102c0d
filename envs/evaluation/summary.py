"""Scores of an evaluation in the words of `metrics.json`: over episodes, by task, over tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.store.numbers import NOT_FINITE
from dipole.envs.evaluation.metrics import (
    mean_interval,
    mean_over_groups_interval,
    proportion_over_groups_interval,
    wilson_interval,
)
from dipole.envs.evaluation.results import EpisodeResult

SUCCESS_RATES = ("success_rate", "success_at_end_rate")
NO_TASK = "(not told)"  # the task of an episode that tells none, where others tell theirs


def summarize(
    episodes: Sequence[EpisodeResult], score: str | None = None, success_name: str | None = None
) -> dict[str, Any]:
    """The scores of `metrics.json`, intervals at 95 % (see metrics.py for the methods).

    score: the metric that decides; None: success_rate where success is known, or return_mean. A
        rate of success that is not known is None, see `check_scored`.
    success_name: the entry of info that told of success.
    """
    knows = any(episode.success is not None for episode in episodes)
    # Of episodes that all diverged before a step told of success, each has failed.
    knows |= score in SUCCESS_RATES and any(episode.ended_by for episode in episodes)
    rewards = [episode.max_reward for episode in episodes]
    metrics = {
        **_scores(episodes, knows),
        "max_reward_ci95": list(mean_interval(rewards)),
        **({"success_name": success_name} if success_name else {}),
        **_successes_by_name(episodes),
        **_by_task(episodes, knows),
    }
    name = score or ("success_rate" if knows else "return_mean")
    return {
        **metrics,
        "score": metrics[name],
        "score_name": name,
        "per_episode": [episode.to_dict() for episode in episodes],
    }


def check_scored(metrics: Mapping[str, Any]) -> None:
    """Raise ConfigError for an evaluation in which nothing told what decides.

    metrics: Of `summarize`.
    """
    if metrics["score"] is None:
        raise ConfigError(
            f"environment.score is {metrics['score_name']}, and no episode's info said whether it "
            "succeeded: say where it stands by environment.success, or set "
            "environment.score=return_mean"
        )


def _scores(episodes: Sequence[EpisodeResult], knows: bool) -> dict[str, Any]:
    """Of all episodes, or of those of one task.

    knows: Whether any episode of the evaluation knows success: then one that said nothing failed.
    """
    returns = [episode.episode_return for episode in episodes]
    n, succeeded = len(episodes), sum(bool(episode.success) for episode in episodes)
    at_end = sum(bool(episode.success_at_end) for episode in episodes)
    return {
        "episodes": n,
        "ended_by": {NOT_FINITE: sum(each.ended_by == NOT_FINITE for each in episodes)},
        "success_rate": succeeded / n if knows else None,
        "success_ci95": list(wilson_interval(succeeded, n)) if knows else None,
        "success_at_end_rate": at_end / n if knows else None,
        "success_at_end_ci95": list(wilson_interval(at_end, n)) if knows else None,
        "max_reward_mean": float(np.mean([episode.max_reward for episode in episodes])),
        "final_reward_mean": float(np.mean([episode.final_reward for episode in episodes])),
        "return_mean": float(np.mean(returns)),
        "return_ci95": list(mean_interval(returns)),
    }


def _successes_by_name(episodes: Sequence[EpisodeResult]) -> dict[str, Any]:
    """{"successes": {name: rate and interval}} of other definitions; {} where there are none."""
    names = sorted({name for episode in episodes for name in episode.successes})
    counts = {name: sum(each.successes.get(name, False) for each in episodes) for name in names}
    n = len(episodes)
    found = {
        name: {"rate": count / n, "ci95": list(wilson_interval(count, n))}
        for name, count in counts.items()
    }
    return {"successes": found} if found else {}


def _by_task(episodes: Sequence[EpisodeResult], knows: bool) -> dict[str, Any]:
    """`per_task` and `over_tasks`; {} where no episode tells its task."""
    if all(episode.task is None for episode in episodes):
        return {}
    groups: dict[str, list[EpisodeResult]] = {}
    for episode in sorted(episodes, key=lambda each: each.task or NO_TASK):
        groups.setdefault(episode.task or NO_TASK, []).append(episode)
    per_task = {
        task: {**_scores(group, knows), **_successes_by_name(group)}
        for task, group in groups.items()
    }
    return {"per_task": per_task, "over_tasks": _over_tasks(per_task, list(groups.values()))}


def _over_tasks(
    per_task: dict[str, dict[str, Any]], groups: Sequence[Sequence[EpisodeResult]]
) -> dict[str, Any]:
    """Means of the tasks' means: each task counts the same, however many episodes it had."""
    found: dict[str, Any] = {"tasks": len(per_task)}
    for name in ("success_rate", "success_at_end_rate", "max_reward_mean", "return_mean"):
        values = [scores[name] for scores in per_task.values()]
        found[name] = None if None in values else float(np.mean(values))
    found["success_ci95"] = found["success_at_end_ci95"] = None
    if found["success_rate"] is not None:
        for name, said in (("success_ci95", "success"), ("success_at_end_ci95", "success_at_end")):
            counts = [(sum(bool(getattr(e, said)) for e in group), len(group)) for group in groups]
            found[name] = list(proportion_over_groups_interval(counts))
    returns = [[episode.episode_return for episode in group] for group in groups]
    found["return_ci95"] = list(mean_over_groups_interval(returns))
    return found


def latency(seconds: Sequence[float], rows: int) -> dict[str, float]:
    """Percentiles of an inference call of `rows` rows, in ms, without the first, which warms up."""
    measured = 1e3 * np.asarray(seconds[1:] or seconds)
    p50, p99 = np.percentile(measured, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "rows": rows, "calls": len(seconds)}
