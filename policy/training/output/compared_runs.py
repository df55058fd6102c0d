"""Training runs beside each other: which settings differ, and what came of each, best first."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dipole.policy.training.output.different_settings import (
    all_different_settings,
    without_what_follows,
)
from dipole.policy.training.output.logs import read_log
from dipole.policy.training.output.result import SCORES
from dipole.policy.training.run import read_run

VALIDATION, TRAIN = "validation/loss_ema", "train/loss"
EVALUATION = "evaluation/"
# What losses depend on beside the weights: with another of these they measure something else.
OF_LOSSES = (
    "dataset",
    "task.dataset",
    "task.datasets",
    "task.fps",
    "task.policy_hz",
    "task.normalizer",
    "task.split",
    "task.observation",
    "task.action",
    "task.targets",
    "task.window",
    "policy.process",
    "policy.prediction",
    "policy.head",
    "policy.known",
    "objective",
)
OF_VALIDATION = ("train.validation_windows",)
OF_TRAINING = (
    "policy.guidance.dropout",
    "policy.guidance.parts",
)  # held-out windows keep all parts
NOT_OF_LOSSES = ("policy.head.solver",)
OF_EVALUATIONS = ("task.environment",)


@dataclass(frozen=True)
class RunScore:
    """What a run's own evaluations found, while it trained.

    name: "success_rate", "max_reward_mean" or what else decides in the environment.
    best, last: Of all evaluations and of the newest. best_step: At which it was the best.
    evaluations: How many there were. episodes, ci95: Of the best one; None where nobody says.
    """

    name: str
    best: float
    last: float
    best_step: int
    evaluations: int
    episodes: int | None = None
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class TrainedRun:
    """A run's folder, read. steps: Made. asked: That it was told to make. minutes: Of its training
    steps alone. train_loss, validation_loss: The newest, the latter of the averaged weights."""

    path: Path
    config: Mapping[str, Any]
    steps: int
    asked: int
    minutes: float
    train_loss: float | None
    validation_loss: float | None
    score: RunScore | None

    @classmethod
    def read(cls, path: Path) -> "TrainedRun":
        """Raises ConfigError, naming the file, for a damaged one."""
        config, log = read_run(path), path / "log.jsonl"
        lines = read_log(log) if log.exists() else []
        return cls(
            path,
            config,
            max((line["step"] for line in lines), default=0),
            config["train"]["steps"],
            _minutes(lines),
            _last(lines, TRAIN),
            _last(lines, VALIDATION),
            _score(lines),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the configuration."""
        said = {name: value for name, value in asdict(self).items() if name != "config"}
        return {**said, "path": str(self.path)}


@dataclass(frozen=True)
class RunTable:
    """runs: Best first, where they can be ordered. ordered_by: The score or loss that says so;
    None: they are in the order in which they were given. settings: {key: a value of each run} of
    those that differ; None where a run does not have it. notes: What cannot be compared, and why.
    """

    runs: Sequence[TrainedRun]
    ordered_by: str | None
    settings: Mapping[str, Sequence[Any]]
    notes: Sequence[str] = field(default_factory=list)

    @classmethod
    def of(cls, runs: Sequence[TrainedRun], names: Sequence[str]) -> "RunTable":
        """names: Of the runs, for the notes."""
        # What follows from a name is not shown beside it, and forbids an order all the same.
        differing = all_different_settings([run.config for run in runs])
        label = dict(zip(map(id, runs), names, strict=True))
        measure, key, notes = _measure(runs, differing)
        order = list(runs)
        if key is not None:
            order.sort(key=key)
            notes += _within_chance(order, label)
        notes += _missing(order, label)
        shown = without_what_follows(differing)
        where = [next(n for n, run in enumerate(runs) if run is each) for each in order]
        settings = {k: [values[n] for n in where] for k, values in shown.items()}
        return cls(order, measure, settings, notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        rows = [
            {**run.to_dict(), "settings": {k: values[n] for k, values in self.settings.items()}}
            for n, run in enumerate(self.runs)
        ]
        return {"runs": rows, "ordered_by": self.ordered_by, "notes": list(self.notes)}


def _measure(
    runs: Sequence[TrainedRun], differing: Mapping[str, Any]
) -> tuple[str | None, Callable[[TrainedRun], tuple[float, float]] | None, list[str]]:
    """What the runs are ordered by and the key to sort by, lowest first, or why they are not."""
    scores = {run.score.name for run in runs if run.score is not None}
    validated = any(run.validation_loss is not None for run in runs)
    of_losses = (*OF_LOSSES, *(OF_VALIDATION if validated else OF_TRAINING))
    other = _of(differing, of_losses, NOT_OF_LOSSES)
    notes = []
    if other:
        notes.append(f"losses cannot be compared where these differ: {', '.join(other)}")
    if scores:
        elsewhere = _of(differing, OF_EVALUATIONS)
        if len(scores) > 1 or elsewhere:
            said = ", ".join(elsewhere or sorted(scores))
            return None, None, [f"not ordered: evaluations differ in {said}", *notes]
        (name,) = scores
        return name, lambda run: (_negative(run.score), 0.0 if other else _loss(run)), notes
    if other:
        return None, None, ["not ordered: no run was evaluated while it trained", *notes]
    if validated:
        return "validation_loss", lambda run: (_loss(run), 0.0), notes
    return "train_loss", lambda run: (_or_last(run.train_loss), 0.0), notes


def _negative(score: RunScore | None) -> float:
    return math.inf if score is None else -score.best


def _loss(run: TrainedRun) -> float:
    return _or_last(run.validation_loss)


def _or_last(loss: float | None) -> float:
    return math.inf if loss is None else loss


def _within_chance(order: Sequence[TrainedRun], label: Mapping[int, str]) -> list[str]:
    """Whose interval overlaps with that of the best one."""
    first = order[0].score
    if first is None or first.ci95 is None:
        return []
    low = first.ci95[0]
    scores = {label[id(run)]: run.score for run in order[1:]}
    near = [name for name, s in scores.items() if s and s.ci95 and s.ci95[1] >= low]
    if not near:
        return []
    return [f"the intervals of these overlap with that of {label[id(order[0])]}: {', '.join(near)}"]


def _of(
    differing: Mapping[str, Any], groups: Sequence[str], not_of: Sequence[str] = ()
) -> list[str]:
    """Those of the groups in which settings differ; of one setting alone its own name."""

    def within(key: str, group: str) -> bool:
        return f"{key}.".startswith(f"{group}.")

    found = []
    for group in groups:
        keys = [key for key in differing if within(key, group)]
        keys = [key for key in keys if not any(within(key, other) for other in not_of)]
        if keys:
            found.append(keys[0] if len(keys) == 1 else group)
    return found


def _missing(runs: Sequence[TrainedRun], label: Mapping[int, str]) -> list[str]:
    """What some runs lack that others have."""

    def named(chosen: Callable[[TrainedRun], bool]) -> str:
        return ", ".join(label[id(run)] for run in runs if chosen(run))

    notes = []
    if nothing := named(lambda run: not run.steps):
        notes.append(f"nothing is logged yet: {nothing}")
    if any(run.score is not None for run in runs) and (
        none := named(lambda run: bool(run.steps) and run.score is None)
    ):
        notes.append(f"not evaluated while trained (train.evaluate_every), so last: {none}")
    if short := named(lambda run: 0 < run.steps < run.asked):
        notes.append(f"not trained to the end, or not yet: {short}")
    if several := {run.score.evaluations for run in runs if run.score is not None} - {1}:
        fewest, most = min(several), max(several)
        how_many = str(most) if fewest == most else f"{fewest} to {most}"
        notes.append(
            f"the best of {how_many} evaluations is higher than the policy is; evaluate it anew by "
            "dipole evaluate checkpoint=RUN/best, and compare these evaluations in pairs"
        )
    return notes


def _score(lines: Sequence[Mapping[str, Any]]) -> RunScore | None:
    """By the first of SCORES that the run's evaluations have."""
    for key, best, _ in SCORES:
        found = [line for line in lines if key.startswith(EVALUATION) and _is_number(line.get(key))]
        if not found:
            continue
        value = best(float(line[key]) for line in found)
        first = next(line for line in found if line[key] == value)
        own = key.removeprefix(EVALUATION)
        name = str(first.get("evaluation/score_name", own)) if own == "score" else own
        interval = first.get(f"{EVALUATION}{name.removesuffix('_rate').removesuffix('_mean')}_ci95")
        return RunScore(
            name,
            value,
            float(found[-1][key]),
            first["step"],
            len(found),
            first.get("evaluation/episodes"),
            None if interval is None else (interval[0], interval[1]),
        )
    return None


def _last(lines: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [line[key] for line in lines if _is_number(line.get(key))]
    return float(values[-1]) if values else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _minutes(lines: Sequence[Mapping[str, Any]]) -> float:
    """Of the steps between reports, each of which says what one of them took."""
    seconds, before = 0.0, 0
    for line in lines:
        if "time/compute_ms" in line:
            each = line["time/compute_ms"] + line.get("time/data_ms", 0.0)
            seconds += (line["step"] - before) * each / 1e3
            before = line["step"]
    return seconds / 60
