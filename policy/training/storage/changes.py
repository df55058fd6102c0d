"""The settings that a resumed run may have otherwise than it was begun with."""

import json
from collections.abc import Mapping
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.policy.training.state import SAME_POLICY

# Neither the policy, nor its data, nor which of them are held out.
INNER = ("train", "evaluate")
WHOLE = ("task.environment", "policy.head.solver")
SINGLE = (
    "dataset",
    "task.dataset",
    "task.name",
    "task.window.n_action_steps",
    "policy.name",
    "policy.guidance.scale",
    "policy.guidance.passes",
    "objective.teacher",
)
DATASETS = "task.datasets."  # NAME.path
NONE = object()


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a run's configuration with single settings replaced, by dotted key.

    Raises ConfigError for what would make it the run of another policy, or of other data. Paths of
    data and of a teacher may change: that they are the same is found when they are read.
    """
    copy: dict[str, Any] = json.loads(json.dumps(config))
    for key, value in changes.items():
        _set(copy, key, value)
    return copy


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    if f"{key}.".startswith("train.init."):
        raise ConfigError(f"{key} is of new runs: a resumed one goes on with its own weights")
    *parents, last = key.split(".")
    inner: Any = None if "/" in key else config
    for parent in parents:
        inner = inner.get(parent) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or (
        isinstance(inner.get(last), Mapping) and not isinstance(value, Mapping)
    ):
        raise ConfigError(f"a resumed run keeps its {key}: set single values, such as train.steps")
    before = inner.get(last, NONE)
    if before != value and not _may_change(key):
        was = "has no such setting" if before is NONE else f"has {json.dumps(before)}"
        raise ConfigError(
            f"{key}={value}: the run {was}. {SAME_POLICY}. It may change in "
            f"{', '.join(f'{name}.*' for name in (*INNER, *WHOLE))}, {', '.join(SINGLE)}"
        )
    inner[last] = value


def _may_change(key: str) -> bool:
    within = tuple(f"{name}." for name in (*INNER, *WHOLE))
    return (
        key in (*WHOLE, *SINGLE)
        or key.startswith(within)
        or (key.startswith(DATASETS) and key.endswith(".path"))
    )
