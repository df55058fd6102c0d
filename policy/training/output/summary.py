"""What a run says of itself before it begins."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dipole.data import Features
from dipole.data.core.units import units_text
from dipole.data.loading.task_data import TaskData
from dipole.data.store.metadata import actions_of
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.hardware.precision import precision_note
from dipole.policy.training.state import TrainState, helper_tensors


def run_summary(
    state: TrainState,
    settings: TrainConfig,
    data: TaskData,
    constant: Mapping[str, Sequence[int]],
    output: Path,
    environment: Any = None,
) -> list[str]:
    """Lines for the terminal.

    constant: Dimensions that do not vary in the data, by feature. environment: The task's, its name
        or a table with its name; None: it has none.
    """
    policy = state.policy
    parameters = sum(p.numel() for p in policy.parameters())
    lines = [
        f"run: {output}, step {state.step} of {settings.steps}",
        f"policy: {policy.config.name}, {parameters:,} parameters, on {policy.device}",
        *_helpers(state),
        *data.summary(),
        *_recorded_elsewhere(data, environment),
        f"batches: {settings.batch_size * settings.accumulate} windows a step",
        _meaning(data.features),
    ]
    precision = precision_note(settings.amp, policy.device)
    lines += [precision] if precision else []
    if state.sharding is not None:
        lines.append(state.sharding.summary(state.objective))
    lines += _warmup(settings)
    lines += policy.encoder.describe()
    lines += [f"constant and passed through: {k} {v}" for k, v in constant.items()]
    return lines


def _recorded_elsewhere(data: TaskData, environment: Any) -> list[str]:
    """Where demonstrations are another task's of a simulator, or have actions of another kind,
    which may have the same shapes.

    Ids of other formats, such as a robot's, are not compared: they have other names for the same.
    """
    spec = environment if isinstance(environment, Mapping) else {"name": environment}
    name, actions = spec.get("name"), actions_of(spec.get("options") or {})
    lines = []
    for part in data.parts:
        recorded = str(part.store.environment.get("id", ""))
        if "/" in recorded and "/" in str(name) and recorded != name:
            lines.append(
                f"note: {part.store.path} was recorded in {recorded}, and the task evaluates in "
                f"{name}"
            )
        elif recorded == str(name) and (there := actions_of(part.store.environment)) != actions:
            lines.append(
                f"note: {part.store.path} has {there} actions, and the task's environment takes "
                f"{actions} ones (environment.options.actions)"
            )
    return lines


def _helpers(state: TrainState) -> list[str]:
    """Of objectives with more than the policy."""
    helpers = sum(tensor.numel() for tensor in helper_tensors(state.objective).values())
    if not helpers and len(state.optimizers) == 1:
        return []
    name = type(state.objective).__name__
    return [f"objective: {name}, updates {', '.join(state.optimizers)}, {helpers:,} helper numbers"]


def _warmup(settings: TrainConfig) -> list[str]:
    """Where a run ends before its learning rate is what was asked for."""
    if settings.steps > settings.warmup_steps:
        return []
    return [
        f"learning rate: it rises for {settings.warmup_steps} steps, and the run has "
        f"{settings.steps}, so it never gets to {settings.learning_rate:g}: give "
        f"train.warmup_steps={settings.steps // 10}, or more steps"
    ]


def _meaning(features: Features) -> str:
    """What a robot will be compared with, and what is not known of it."""
    action = features.action
    rate = "frame rate not recorded" if features.fps is None else f"{features.fps:g} frames/s"
    units = units_text(action.units) or "units not recorded"
    names = ", ".join(action.names) or "names not recorded"
    return f"trained on: {rate}; action in {units} ({names})"
