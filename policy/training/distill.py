"""A student's run, by its teacher's: what `dipole distill` composes, as training takes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.policy.checkpoint import find_checkpoint, origin, read_config
from dipole.policy.core.components import OBJECTIVES, named
from dipole.policy.training import objectives  # noqa: F401  they register themselves
from dipole.policy.training.objectives.distillation.base import Distillation, distilling_methods

Config = dict[str, Any]
OF_THE_RUN = ("task", "policy")  # what a student takes of the teacher's run


@dataclass(frozen=True)
class StudentRun:
    """config: What `dipole.policy.training.run.start_run` takes. notes: For the terminal."""

    config: Config
    notes: tuple[str, ...]


def student_run(config: Mapping[str, Any]) -> StudentRun:
    """The run of a student.

    config: `teacher`, a run or a checkpoint; `weights`; `method`, an objective with its options;
        `dataset`, or None for the teacher's; `train` and `evaluate`.

    Raises ConfigError for a method that is none, or a teacher that cannot be one.
    """
    checkpoint = _checkpoint(config["teacher"])
    run = _run_of(checkpoint)
    kind, options = _method(config["method"])
    objective, init = {**config["method"]}, None
    if kind.needs_teacher:
        _refuse_other_weights(config["train"])
        named = origin(checkpoint)
        if "://" not in named:  # a run is resumed from any folder
            named = str(Path(named).resolve())
        objective |= {"teacher": named, "weights": config["weights"]}
        init = {"from": named, "map": None, "weights": config["weights"]}
    policy = kind.student(run["policy"], options)
    made: Config = {
        **{key: run[key] for key in OF_THE_RUN},
        "policy": policy,
        "dataset": config["dataset"] or run["dataset"],
        "objective": objective,
        "train": {**config["train"], **({"init": init} if init else {})},
        "evaluate": config["evaluate"],
        "output": config["output"],
    }
    return StudentRun(made, tuple(kind.notes(run["policy"], policy, checkpoint)))


def _checkpoint(teacher: str) -> Path:
    try:
        return find_checkpoint(teacher)
    except CheckpointError as error:
        raise CheckpointError(f"teacher={teacher}: {error}") from error


def _run_of(checkpoint: Path) -> Config:
    run: Config = read_config(checkpoint).get("run") or {}
    lacking = [key for key in (*OF_THE_RUN, "dataset") if key not in run]
    if lacking:
        raise ConfigError(
            f"teacher={checkpoint}: its config.json does not say its run's {', '.join(lacking)}: a "
            "checkpoint of `dipole train` is needed"
        )
    return run


def _refuse_other_weights(train: Mapping[str, Any]) -> None:
    other = (train.get("init") or {}).get("from")
    if other is not None:
        raise ConfigError(
            f"train.init.from={other}: a student begins with its teacher's weights; leave it out, "
            f"or distil that run, teacher={other}"
        )


def _method(method: Mapping[str, Any]) -> tuple[type[Distillation], dict[str, Any]]:
    kind = named(OBJECTIVES, method)
    if not (isinstance(kind, type) and issubclass(kind, Distillation)):
        raise ConfigError(
            f"method {method['name']!r} distils nothing: choose {', '.join(distilling_methods())}"
        )
    return kind, {key: value for key, value in method.items() if key != "name"}
