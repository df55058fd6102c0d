"""A training run from a plain configuration: build, train, or go on with one.

    result = start_run(config, Path("runs/first"))
    result = resume_run(Path("runs/first"), {"train.steps": 20000})

`config` is what `configs/train.yaml` composes, resolved: task, dataset, policy, train, evaluate.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import dipole
from dipole.data import Features, make_loader
from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.data.core.units import units_text
from dipole.data.loading.task_data import TaskData
from dipole.policy.checkpoint import checkpoints_of, read_config
from dipole.policy.core.device import choose_device
from dipole.policy.core.files import write_json
from dipole.policy.encoders.cameras.pretrained import with_architecture
from dipole.policy.policy import Policy, PolicyConfig
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.hardware.precision import precision_note, use_autocast
from dipole.policy.training.loop import Evaluate, Trainer
from dipole.policy.training.optimizer import learning_rate
from dipole.policy.training.result import TrainResult
from dipole.policy.training.run_folder import (
    RUN_FILE,
    new_run_folder,
    refuse_run,
    resumed_run_folder,
)
from dipole.policy.training.state import TrainState
from dipole.policy.training.validation import Validation

Config = dict[str, Any]
MakeEvaluate = Callable[[Config], Evaluate]  # what scores a policy, by a run's configuration
Say = Callable[[str], None]
NOT_KEPT = ("overrides", "resume")  # how the configuration came about


def start_run(
    config: Config,
    output: Path,
    evaluate: MakeEvaluate | None = None,
    rename: bool = False,
    say: Say = print,
) -> TrainResult:
    """Train a new policy into `output`.

    evaluate: Makes what scores the policy every train.evaluate_every steps.
    rename: Whether another name will do where `output` is taken.

    Raises ConfigError, before anything is written, for what cannot work or a folder that holds a
    run.
    """
    if not rename:
        refuse_run(output)
    config = {key: value for key, value in config.items() if key not in NOT_KEPT}
    settings = TrainConfig.from_dict(config["train"])
    if settings.amp is None:
        # Decided once: a run that is resumed goes on as it began.
        device = choose_device(settings.device)
        amp = use_autocast(None, device)
        if not amp:
            say(precision_note(None, device))
        config["train"] = {**config["train"], "amp": amp}
    parts = build_run(config, evaluate)
    with new_run_folder(output, rename) as folder:
        parts.config["output"] = str(folder)
        return _fit(parts, folder, say)


def resume_run(
    output: Path,
    changes: Mapping[str, Any] | None = None,
    evaluate: MakeEvaluate | None = None,
    say: Say = print,
) -> TrainResult:
    """Go on with the run in `output` at its newest checkpoint.

    changes: Single settings by dotted key, {"train.steps": 20000}; they are kept with the run.

    Raises ConfigError where there is no run, another process trains it, or its data are others.
    """
    with resumed_run_folder(output):
        before = read_run(output)
        config = changed(before, changes or {})
        done = checkpoints_of(output)
        parts = build_run(config, evaluate, fresh=not done)
        if done:
            parts.data.require_same(read_config(done[-1]).get("dataset", {}), str(done[-1]))
            parts.state.load(done[-1])
            for note in _resume_notes(parts, read_config(done[-1]).get("train")):
                say(note)
        return _fit(parts, output, say)


def read_run(output: Path) -> Config:
    """The configuration that a run was begun, or last resumed, with."""
    path = output / RUN_FILE
    if not path.exists():
        raise CheckpointError(f"resume={output}: no run there (it has no {RUN_FILE})")
    try:
        saved: Config = json.loads(path.read_text())["config"]
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{path}: damaged ({error})") from error
    return saved


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """A copy of a run's configuration with single settings replaced."""
    copy: Config = json.loads(json.dumps(config))
    for key, value in changes.items():
        _set(copy, key, value)
    return copy


def _set(config: Config, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    inner: Any = None if "/" in key else config
    for parent in parents:
        inner = inner.get(parent) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or (
        isinstance(inner.get(last), Mapping) and not isinstance(value, Mapping)
    ):
        raise ConfigError(f"a resumed run keeps its {key}: set single values, such as train.steps")
    inner[last] = value


@dataclass
class RunParts:
    """What a run is made of, before it has a folder."""

    config: Config
    settings: TrainConfig
    data: TaskData
    state: TrainState
    constant: Mapping[str, list[int]]
    evaluate: Evaluate | None


def build_run(config: Config, evaluate: MakeEvaluate | None = None, fresh: bool = True) -> RunParts:
    """Everything that a run needs, at step 0. Writes nothing.

    fresh: Whether no checkpoint will be loaded: then pretrained weights are.
    """
    settings = TrainConfig.from_dict(config["train"])
    device = choose_device(settings.device)
    data = TaskData.open(config["task"], config["dataset"])
    torch.manual_seed(settings.seed)
    config = {**config, "policy": with_architecture(config["policy"])}
    policy = Policy(PolicyConfig.from_dict(config["policy"]), data.features, data.train.spec)
    constant = policy.fit(data.train.statistics())
    if fresh:
        policy.encoder.load_weights()
    state = TrainState.new(policy.to(device), settings)
    if settings.evaluate_every and data.has_own_ranges:
        raise ConfigError(
            "normalizer=per_part trains a policy for several robots, and an evaluation is of one: "
            "set train.evaluate_every=0, and evaluate checkpoints by `dipole evaluate part=NAME`"
        )
    score = evaluate(config) if evaluate is not None and settings.evaluate_every else None
    return RunParts(config, settings, data, state, constant, score)


def _fit(parts: RunParts, output: Path, say: Say) -> TrainResult:
    state, settings, data = parts.state, parts.settings, parts.data
    if state.step < settings.steps:  # otherwise nothing changes, and nor do the run's settings
        write_json(output / RUN_FILE, {"dipole": dipole.__version__, "config": parts.config})
    loader = make_loader(
        data.train,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=state.policy.device,
        workers=settings.workers,
        memory_limit_bytes=settings.memory_limit_bytes,
    )
    for line in _summary(parts, output):
        say(line)
    validation = None
    if data.validation is not None and settings.validate_every:
        limit, size = settings.validation_windows, settings.batch_size
        validation = Validation(data.validation, limit, size, settings.seed)
    origin = {
        "dipole": dipole.__version__,
        "dataset": data.describe(),
        "environment": parts.config["task"].get("environment"),
        "run": parts.config,
    }
    trainer = Trainer(state, loader, settings, output, origin, validation, parts.evaluate)
    begun = state.step
    stopped = trainer.fit()
    return TrainResult.of(output, settings.steps, (begun, state.step), stopped)


def _resume_notes(parts: RunParts, trained_with: Mapping[str, Any] | None) -> list[str]:
    """What a person may not expect of going on with other settings."""
    step, settings = parts.state.step, parts.settings
    if step >= settings.steps or not trained_with or not step:
        return []
    last = learning_rate(step - 1, TrainConfig.from_dict(trained_with))
    if learning_rate(step - 1, settings) <= last * 1.05:
        return []
    return [
        f"the learning rate goes up again, from {last:.1e} to "
        f"{learning_rate(step, settings):.1e}: its schedule now spans {settings.steps} steps"
    ]


def _summary(parts: RunParts, output: Path) -> list[str]:
    state, settings, data = parts.state, parts.settings, parts.data
    parameters = sum(p.numel() for p in state.policy.parameters())
    effective = settings.batch_size * settings.accumulate
    lines = [
        f"run: {output}, step {state.step} of {settings.steps}",
        f"policy: {state.policy.config.name}, {parameters:,} parameters, on {state.policy.device}",
        *data.summary(),
        f"batches: {effective} windows a step",
        _meaning(data.features),
    ]
    precision = precision_note(settings.amp, state.policy.device)
    lines += [precision] if precision else []
    lines += state.policy.encoder.describe()
    lines += [f"constant and passed through: {k} {v}" for k, v in parts.constant.items()]
    return lines


def _meaning(features: Features) -> str:
    """What a robot will be compared with, and what is not known of it."""
    action = features.action
    rate = "frame rate not recorded" if features.fps is None else f"{features.fps:g} frames/s"
    units = units_text(action.units) or "units not recorded"
    names = ", ".join(action.names) or "names not recorded"
    return f"trained on: {rate}; action in {units} ({names})"
