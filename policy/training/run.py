"""A training run from a plain configuration: build, train, or go on with one.

    result = start_run(config, Path("runs/first"))
    result = resume_run(Path("runs/first"), {"train.steps": 20000})

`config` is what `configs/train.yaml` composes, resolved: task, dataset, policy,
objective, train, evaluate.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import dipole
from dipole.data import make_loader
from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.data.loading.number_notes import number_notes
from dipole.data.loading.task_data import TaskData
from dipole.data.store.bundle import dataset_path
from dipole.policy.checkpoint import checkpoints_of, read_config
from dipole.policy.core.device import choose_device
from dipole.policy.core.files import write_json
from dipole.policy.encoders.cameras.backbones.pretrained import with_architecture
from dipole.policy.policy import Policy, PolicyConfig
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.hardware.precision import precision_note, use_autocast
from dipole.policy.training.initialization import Initialization, initialize
from dipole.policy.training.loop import Evaluate, Loader, Trainer
from dipole.policy.training.objective import DEFAULT as DEFAULT_OBJECTIVE
from dipole.policy.training.objective import build_objective, wanted_targets
from dipole.policy.training.optimization.optimizer import learning_rate
from dipole.policy.training.output.logs import require_wandb
from dipole.policy.training.output.result import TrainResult
from dipole.policy.training.output.run_folder import (
    RUN_FILE,
    new_run_folder,
    refuse_run,
    resumed_run_folder,
)
from dipole.policy.training.output.summary import run_summary
from dipole.policy.training.process.group import Group
from dipole.policy.training.process.launch import Launch
from dipole.policy.training.process.rank import Rank
from dipole.policy.training.state import TrainState
from dipole.policy.training.storage.changes import changed
from dipole.policy.training.storage.run_copy import copy_of, refuse_taken
from dipole.policy.training.validation import Validation

if TYPE_CHECKING:
    from dipole.policy.training.optimization.sharding import FullSharding

Config = dict[str, Any]
# What scores a policy, by a run's configuration, which it checks; None where nothing does.
MakeEvaluate = Callable[[Config], Evaluate | None]
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

    Raises ConfigError, before anything is written, for what cannot work, or where its folder or
    train.copy_to holds a run.
    """
    group = Group.current()
    if not rename:
        group.from_main(lambda: refuse_run(output))
    config = {key: value for key, value in config.items() if key not in NOT_KEPT}
    settings = TrainConfig.from_dict(config["train"])
    group.from_main(lambda: refuse_taken(settings))
    if settings.amp is None:
        # Decided once: a run that is resumed goes on as it began.
        device = choose_device(settings.device)
        amp = use_autocast(None, device)
        if not amp:
            say(precision_note(None, device))
        config["train"] = {**config["train"], "amp": amp}
    with group.together(patient=True):
        parts = build_run(config, evaluate)
        loader = _loader(parts, say)
        group.round(patient=True)
    with ExitStack() as held:
        folder = _claimed(group, held, output, rename)
        parts.config["output"] = str(folder)
        return _fit(parts, loader, folder, say)


def _claimed(group: Group, held: ExitStack, output: Path, rename: bool) -> Path:
    """The run's folder, which the first process makes and locks until `held` ends."""
    return Path(group.from_main(lambda: str(held.enter_context(new_run_folder(output, rename)))))


def resume_run(
    output: Path,
    changes: Mapping[str, Any] | None = None,
    evaluate: MakeEvaluate | None = None,
    say: Say = print,
) -> TrainResult:
    """Go on with the run in `output` at its newest checkpoint.

    changes: Single settings by dotted key, {"train.steps": 20000}; they are kept with the run.

    Raises ConfigError where there is no run, another process trains it, its data are others, or
    the changes would make its policy another one.
    """
    group = Group.current()
    with ExitStack() as held:
        newest = group.from_main(lambda: _newest(output, held))
        with group.together(patient=True):
            parts, saved = _resumed(output, newest, changes or {}, evaluate)
            loader = _loader(parts, say)
            group.round(patient=True)
        if group.rank.is_main and newest:
            for note in _resume_notes(parts, saved.get("train")):
                say(note)
        return _fit(parts, loader, output, say, saved)


def _newest(output: Path, held: ExitStack) -> str | None:
    """The checkpoint that a run goes on from; its folder is locked until `held` ends."""
    held.enter_context(resumed_run_folder(output))
    done = checkpoints_of(output)
    return done[-1].name if done else None


def _resumed(
    output: Path, newest: str | None, changes: Mapping[str, Any], evaluate: MakeEvaluate | None
) -> tuple["RunParts", Config]:
    """What a run is made of, and the configuration of the checkpoint that it goes on from."""
    config = changed(read_run(output), changes)
    _require_dataset(config)
    parts = build_run(config, evaluate, fresh=newest is None)
    if newest is None:
        return parts, {}
    checkpoint = output / "checkpoints" / newest
    saved = read_config(checkpoint)
    parts.data.require_same(saved.get("dataset", {}), str(checkpoint))
    parts.state.load(checkpoint)
    return parts, saved


def _require_dataset(config: Config) -> None:
    """Raise ConfigError where the run's dataset is not where a relative path says."""
    said = config.get("dataset") or config["task"].get("dataset")
    place = None if said is None else dataset_path(said)
    if isinstance(place, Path) and not place.is_absolute() and not place.exists():
        raise ConfigError(
            f"{place}: the run's dataset is not there. Its path is relative to the folder from "
            f"which you call, now {Path.cwd()}; dataset=PATH says where it lies now"
        )


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


@dataclass
class RunParts:
    """What a run is made of, before it has a folder.

    constant: Dimensions that do not vary in the data, by feature.
    init: The weights that a new run begins with, where they are another run's.
    notes: On numbers that cannot be learnt as they are stored.
    """

    config: Config
    settings: TrainConfig
    data: TaskData
    state: TrainState
    constant: Mapping[str, list[int]]
    evaluate: Evaluate | None
    init: Initialization | None = None
    notes: Sequence[str] = ()


def build_run(config: Config, evaluate: MakeEvaluate | None = None, fresh: bool = True) -> RunParts:
    """Everything that a run needs, at step 0. Writes nothing.

    fresh: Whether no checkpoint of the run will be loaded: then pretrained weights are, and those
        of train.init.
    """
    settings = TrainConfig.from_dict(config["train"])
    if settings.wandb and Rank.current().is_main:
        require_wandb()
    device = choose_device(settings.device)
    targets = wanted_targets(config.get("objective"))
    data = TaskData.open(config["task"], config["dataset"], targets)
    torch.manual_seed(settings.seed)
    config = {**config, "policy": with_architecture(config["policy"])}
    policy = Policy(PolicyConfig.from_dict(config["policy"]), data.features, data.train.spec)
    having = [part.features.observation for part in data.train.parts]
    wanted_of_all = data.features.observation
    policy.encoder.check_lacking({n for n in wanted_of_all for own in having if n not in own})
    statistics = data.train.statistics()
    constant, notes = policy.fit(statistics), number_notes(data.train, statistics)
    if fresh:
        policy.encoder.load_weights()
    objective = build_objective(config.get("objective"), policy, data.train)
    if settings.evaluate_every and not objective.trains_policy:
        raise ConfigError(
            "train.evaluate_every: this objective trains the image encoder alone, and no chunks to "
            "evaluate: set it to 0"
        )
    wanted = settings.initial_weights
    init = initialize(objective, wanted) if fresh and wanted.source is not None else None
    sharding = _sharding(settings, device)
    state = TrainState.new(objective if sharding else objective.to(device), settings, sharding)
    if settings.evaluate_every and data.has_own_ranges:
        raise ConfigError(
            "normalizer=per_part trains a policy for several robots, and an evaluation is of one: "
            "set train.evaluate_every=0, and evaluate checkpoints by `dipole evaluate part=NAME`"
        )
    score = evaluate(config) if evaluate is not None and Rank.current().is_main else None
    return RunParts(config, settings, data, state, constant, score, init, notes)


def _sharding(settings: TrainConfig, device: torch.device) -> "FullSharding | None":
    """As the settings say. What it needs is imported where it is wanted: that takes a second."""
    group = Group.current()
    if settings.sharding == "none" or group.is_alone:
        return None
    from dipole.policy.training.optimization.sharding import FullSharding

    return FullSharding.of(settings, group, device)


def _loader(parts: RunParts, say: Say) -> Loader:
    """Made before anything is written: it refuses what processes cannot divide, and data that
    cannot be read."""
    settings, rank = parts.settings, Rank.current()
    return make_loader(
        parts.data.train,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=parts.state.policy.device,
        workers=settings.workers,
        memory_limit_bytes=settings.memory_limit_bytes,
        shuffle_blocks=settings.shuffle_blocks,
        rank=rank.index,
        ranks=rank.count,
        log=say if rank.is_main else _say_nothing,
    )


def _fit(
    parts: RunParts,
    loader: Loader,
    output: Path,
    say: Say,
    resumed: Mapping[str, Any] | None = None,
) -> TrainResult:
    """resumed: The configuration of the checkpoint that the run goes on from."""
    state, settings, data = parts.state, parts.settings, parts.data
    rank, group = Rank.current(), Group.current()
    if not rank.is_main:
        say = _say_nothing
    copy = copy_of(output, settings, rank.is_main, say)
    group.from_main(lambda: copy.claim(new=resumed is None))
    # A run that makes no step keeps its settings.
    if rank.is_main and state.step < settings.steps:
        launch = Launch.of().identity
        written = {"dipole": dipole.__version__, "config": parts.config}
        write_json(output / RUN_FILE, {**written, "launch": launch} if launch else written)
    environment = parts.config["task"].get("environment")
    for line in run_summary(state, settings, data, parts.constant, output, environment):
        say(line)
    for note in parts.notes:
        say(f"note: {note}")
    if parts.init is not None:
        say(parts.init.summary())
    validation = None
    if data.validation is not None and settings.validate_every:
        validation = Validation(data.validation, settings.validation_windows)
    origin = {
        "dipole": dipole.__version__,
        "dataset": data.describe(),
        "environment": environment,
        "objective": parts.config.get("objective", DEFAULT_OBJECTIVE),
        "run": parts.config,
    }
    init = (resumed or {}).get("init") if parts.init is None else parts.init.to_dict()
    if init is not None:
        origin["init"] = init
    trainer = Trainer(state, loader, settings, output, origin, validation, parts.evaluate, rank)
    begun = state.step
    with copy.beside(trainer.writer):
        stopped = trainer.fit()
    result = TrainResult.of(output, settings.steps, (begun, state.step), stopped)
    return replace(result, not_copied=group.from_main(copy.finish))


def _say_nothing(_line: str) -> None:
    """Of processes other than the first."""


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
