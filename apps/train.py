"""`dipole train`: compose, build, train; or go on with a run."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import dipole
import dipole.envs  # simulators register the transforms of their states
from dipole.apps.compose import run
from dipole.data import Features, make_loader
from dipole.data.core.errors import ConfigError
from dipole.data.core.units import units_text
from dipole.data.loading.task_data import TaskData
from dipole.policy import Policy, PolicyConfig
from dipole.policy.checkpoint import checkpoints_of, read_config
from dipole.policy.device import choose_device
from dipole.policy.encoders.pretrained import with_architecture
from dipole.policy.files import write_json
from dipole.policy.training import TrainConfig, Trainer, TrainState, Validation
from dipole.policy.training.loop import Evaluate
from dipole.policy.training.precision import precision_note, use_autocast

Config = dict[str, Any]


def main(argv: list[str]) -> int:
    return run("train", argv, train)


def train(config: Config) -> int:
    """One run, new or resumed; the exit code says which signal ended it, if one did."""
    resuming = config["resume"] is not None
    output = Path(config["resume"] if resuming else config["output"]).expanduser()
    config = _resumed(config, output) if resuming else _new(config, output)
    trainer = make_trainer(config, output)
    stopped = trainer.fit()
    step, steps = trainer.state.step, trainer.config.steps
    if stopped is None:
        print(f"trained {steps} steps: {output}")
        print(_next(config, output))
        return 0
    print(f"{stopped} after step {step} of {steps}; go on with: dipole train resume={output}")
    return 128 + signal.Signals[stopped]


def _next(config: Config, output: Path) -> str:
    """What a person does with a trained policy."""
    if config["task"].get("environment") is None:
        return f"try it with: dipole deploy checkpoint={output} robot=YOURS dry_run=true"
    return f"evaluate with: dipole evaluate checkpoint={output}"


def _new(config: Config, output: Path) -> Config:
    if (output / "run.json").exists():
        raise ConfigError(
            f"output={output} already holds a run: go on with it by `dipole train "
            f"resume={output}`, or choose another output"
        )
    config = {key: value for key, value in config.items() if key not in ("overrides", "resume")}
    settings = TrainConfig.from_dict(config["train"])  # refuse before anything is written
    if settings.amp is None:
        # Decided once: a run that is resumed goes on as it began.
        device = choose_device(settings.device)
        amp = use_autocast(None, device)
        if not amp:
            print(precision_note(None, device))
        config["train"] = {**config["train"], "amp": amp}
    return config


def _resumed(config: Config, output: Path) -> Config:
    """The run's own configuration, with what the command line says differently."""
    path = output / "run.json"
    if not path.exists():
        raise ConfigError(f"resume={output}: no run there (it has no run.json)")
    try:
        saved: Config = json.loads(path.read_text())["config"]
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{path}: damaged ({error})") from error
    for key, value in config["overrides"].items():
        if key not in ("resume", "output"):
            _set(saved, key, value)
    return saved


def _set(config: Config, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        config = config[parent]
    if isinstance(config.get(last), Mapping) and not isinstance(value, Mapping):
        raise ConfigError(f"a resumed run keeps its {key}: set single values, such as train.steps")
    config[last] = value


def make_trainer(config: Config, output: Path) -> Trainer:
    """Everything that a run needs, at its newest checkpoint where there is one."""
    settings = TrainConfig.from_dict(config["train"])
    device = choose_device(settings.device)
    data = TaskData.open(config["task"], config["dataset"])
    torch.manual_seed(settings.seed)
    config = {**config, "policy": with_architecture(config["policy"])}
    policy = Policy(PolicyConfig.from_dict(config["policy"]), data.features, data.train.spec)
    constant = policy.fit(data.train.statistics())
    done = checkpoints_of(output)
    if not done and hasattr(policy.encoder, "load_weights"):
        policy.encoder.load_weights()
    state = TrainState.new(policy.to(device), settings)
    if done:
        data.require_same(read_config(done[-1]).get("dataset", {}), str(done[-1]))
        state.load(done[-1])
    if not (output / "run.json").exists():
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "run.json", {"dipole": dipole.__version__, "config": config})
    loader = make_loader(
        data.train,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=device,
        workers=settings.workers,
        memory_limit_bytes=settings.memory_limit_bytes,
    )
    for line in _summary(state, settings, data, constant, output):
        print(line)
    validation = None
    if data.validation is not None and settings.validate_every:
        limit, size = settings.validation_windows, settings.batch_size
        validation = Validation(data.validation, limit, size, settings.seed)
    origin = {
        "dipole": dipole.__version__,
        "dataset": data.describe(),
        "environment": config["task"].get("environment"),
        "run": config,
    }
    if settings.evaluate_every and data.has_own_ranges:
        raise ConfigError(
            "normalizer=per_part trains a policy for several robots, and an evaluation is of one: "
            "set train.evaluate_every=0, and evaluate checkpoints by dipole.policy.load_policy"
        )
    evaluate = _evaluation(config) if settings.evaluate_every else None
    return Trainer(state, loader, settings, output, origin, validation, evaluate)


def _summary(
    state: TrainState,
    settings: TrainConfig,
    data: TaskData,
    constant: Mapping[str, list[int]],
    output: Path,
) -> list[str]:
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
    lines += [view.describe() for view in getattr(state.policy.encoder, "views", {}).values()]
    lines += [f"constant and passed through: {k} {v}" for k, v in constant.items()]
    return lines


def _meaning(features: Features) -> str:
    """What a robot will be compared with, and what is not known of it."""
    action = features.action
    rate = "frame rate not recorded" if features.fps is None else f"{features.fps:g} frames/s"
    units = units_text(action.units) or "units not recorded"
    names = ", ".join(action.names) or "names not recorded"
    return f"trained on: {rate}; action in {units} ({names})"


def _evaluation(config: Config) -> Evaluate:
    """Scores a policy in the task's simulator, as the group `evaluate` says."""
    from dipole.envs import evaluate

    environment = config["task"].get("environment")
    if environment is None:
        raise ConfigError(
            f"task {config['task']['name']!r} has no environment to evaluate in: "
            "set train.evaluate_every=0"
        )

    def score(policy: Policy) -> Mapping[str, Any]:
        evaluation = evaluate(
            policy,
            environment["name"],
            environment_options=environment.get("options"),
            **config["evaluate"],
        )
        names = ("max_reward_mean", "max_reward_ci95", "success_rate", "success_ci95", "episodes")
        return {name: evaluation.metrics[name] for name in names}

    return score
