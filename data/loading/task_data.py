"""The data of a task: its demonstrations, split into training and validation.

A task has one dataset, or a mixture of several (docs/mixtures.md):

    dataset: kitchen.zarr                    datasets:
                                               kitchen: {path: kitchen.zarr, weight: 0.7}
                                               lab: {path: lab.zarr, weight: 0.3, ...}
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.data.core.units import units_text
from dipole.data.loading.features import Feature, Features
from dipole.data.loading.mixture.mixture import NORMALIZERS, Mixture, MixturePart
from dipole.data.loading.targets import define_targets, require_targets
from dipole.data.loading.task_part import OpenedPart, PartConfig, TaskPart
from dipole.data.loading.window_source import WindowSource
from dipole.data.loading.window_spec import WindowSpec

KEYS = (
    "name",
    "environment",
    "dataset",
    "datasets",
    "fps",
    "policy_hz",
    "normalizer",
    "observation",
    "action",
    "targets",
    "window",
    "split",
)


def check_task(task: Mapping[str, Any]) -> None:
    """Raise ConfigError for a setting that no task has, one that each needs, and for a window of
    unknown names."""
    for key in task:
        if key not in KEYS:
            hint = nearest(str(key), KEYS) or "."
            raise ConfigError(f"there is no task.{key}{hint} Known: {', '.join(KEYS)}")
    for key in ("observation", "action", "window"):
        if not isinstance(task.get(key), Mapping):
            raise ConfigError(f"task {_name(task)} has no {key}: see docs/data-format.md")
    WindowSpec.check_names(task["window"])


@dataclass(frozen=True)
class TaskData:
    """A task's demonstrations.

    parts: Its datasets.
    features: What the policy sees and does; fps is the rate of its steps.
    train, validation: Windows of the training and of the held-out episodes; None where no episode
        that has windows is held out.
    """

    parts: tuple[TaskPart, ...]
    features: Features
    train: WindowSource
    validation: WindowSource | None

    @classmethod
    def open(
        cls,
        task: Mapping[str, Any],
        dataset: str | None,
        targets: Mapping[str, Any] | None = MappingProxyType({}),
    ) -> "TaskData":
        """Transforms are registered already.

        dataset: A path instead of the task's own.
        targets: What is read beside what the policy sees and does, {name: table}; None: all of the
            task's targets. See `dipole.data.loading.targets`.

        Raises ConfigError and DataError, naming the key or the dataset.
        """
        check_task(task)
        configs = [PartConfig.from_dict(entry, task) for entry in _entries(task, dataset)]
        opened = [OpenedPart.open(config) for config in configs]
        hz = _rate(task.get("policy_hz"), opened)
        spec = WindowSpec.from_dict(task["window"], hz)
        strided = None if task.get("policy_hz") is None else hz
        wanted = define_targets(targets, task) if targets is None or targets else []
        found = [part.targets(wanted) for part in opened]
        require_targets(wanted, found, [part.store for part in opened], task)
        parts = tuple(
            part.windows(spec, strided, own) for part, own in zip(opened, found, strict=True)
        )
        if task.get("datasets") is None:
            _refuse_normalizer(task.get("normalizer"))
            return cls._single(parts[0])
        return cls._mixed(task, parts, hz)

    @classmethod
    def _single(cls, part: TaskPart) -> "TaskData":
        held_out = part.held_out if len(part.held_out) else None
        return cls((part,), part.train.features, part.train, held_out)

    @classmethod
    def _mixed(
        cls, task: Mapping[str, Any], parts: tuple[TaskPart, ...], hz: float | None
    ) -> "TaskData":
        said = {"observation": task["observation"], "action": task["action"], "fps": hz}
        normalizer = task.get("normalizer", "merged")
        features = _with_meaning(Features.from_dict(said), parts, shared=normalizer != "per_part")
        given = [
            MixturePart(part.train, weight, part.config.name, part.config.entries)
            for part, weight in zip(parts, _weights(parts), strict=True)
        ]
        train = Mixture(given, features, normalizer)
        return cls(parts, features, train, train.with_windows([part.held_out for part in parts]))

    @property
    def names(self) -> list[str]:
        """Of the datasets."""
        return [part.config.name for part in self.parts]

    @property
    def path(self) -> str:
        """Where the datasets lie, for messages."""
        return ", ".join(str(part.store.path) for part in self.parts)

    @property
    def has_own_ranges(self) -> bool:
        """Whether each dataset is normalised by itself, so that a robot is like one of them."""
        return isinstance(self.train, Mixture) and self.train.normalizer == "per_part"

    def describe(self) -> dict[str, Any]:
        """What a checkpoint says about the data it was trained on: of each dataset its path and
        fingerprint, and how its numbers became the policy's."""
        if not isinstance(self.train, Mixture):
            return self.parts[0].describe()
        described = [
            {
                "name": given.name,
                "weight": given.weight,
                "fps": part.config.fps or part.store.fps,
                **part.describe(),
                "action_entries": list(given.entries),
                "features": part.train.features.to_dict(),
                "rescaling": self.train.rescaling_dict(number),
                "held": self.train.held_dict(number),
            }
            for number, (part, given) in enumerate(zip(self.parts, self.train.given, strict=True))
        ]
        return {"normalizer": self.train.normalizer, "parts": described}

    def require_same(self, described: Mapping[str, Any], where: str) -> None:
        """Raise ConfigError unless `described`, as a checkpoint at `where` has it, is this data."""
        before = [entry.get("fingerprint") for entry in described.get("parts") or [described]]
        if len(before) != len(self.parts):
            raise ConfigError(
                f"the task has {len(self.parts)} datasets, but {where} was trained on "
                f"{len(before)}: give the same, or begin a new run"
            )
        for part, fingerprint in zip(self.parts, before, strict=True):
            if not part.store.has_fingerprint(fingerprint):
                raise ConfigError(
                    f"{part.store.path} is not the dataset that {where} was trained on (its "
                    "fingerprint differs): give that one by dataset=PATH, or begin a new run"
                )

    def summary(self) -> list[str]:
        """Lines for a person: which episodes train, which are held out, and which are no use."""
        weights = _shares(self.train, len(self.parts))
        lines = [_part_line(part, share) for part, share in zip(self.parts, weights, strict=True)]
        if self.validation is None:
            lines.append(
                "validation: none, because no episode is held out: split.val_ratio is 0, or only "
                "one episode has windows"
            )
        lines += [_target_line(name, self.parts) for name in self.train.targets]
        for name, feature in self.features.represented.items():
            assert feature.represent is not None
            lines.append(f"data: {name} {feature.represent.describe()}")
        readers = [reader for part in self.parts for reader in part.train.readers.values()]
        return lines + [reader.note for reader in readers if reader.note is not None]


def _entries(task: Mapping[str, Any], dataset: str | None) -> Sequence[Mapping[str, Any]]:
    """One for each dataset of the task."""
    several = task.get("datasets")
    if several is None:
        path = dataset or task.get("dataset")
        if path is None:
            raise ConfigError(
                f"task {_name(task)} has no dataset of its own: give dataset=PATH (where its "
                "simulator has an expert, `dipole record task=... output=PATH` makes one)"
            )
        return [{"path": str(path)}]
    if dataset is not None or task.get("dataset") is not None:
        raise ConfigError(
            f"task {_name(task)} has several datasets, and dataset={dataset or task['dataset']} "
            "is one: leave it out, or set task.datasets=null"
        )
    if isinstance(several, Mapping):
        return [{"name": str(name), **_entry(name, entry)} for name, entry in several.items()]
    if not isinstance(several, Sequence) or isinstance(several, str) or not several:
        raise ConfigError(f"task.datasets is {several!r}: tables by name, or a list, are needed")
    return [_entry(number, entry) for number, entry in enumerate(several)]


def _entry(which: object, said: Any) -> Mapping[str, Any]:
    """Of task.datasets: a table, or a path alone."""
    if isinstance(said, str):
        return {"path": said}
    if not isinstance(said, Mapping | None):
        raise ConfigError(f"task.datasets.{which} is {said!r}: a path, or a table with one")
    return said or {}


def _refuse_normalizer(said: Any) -> None:
    """Raise ConfigError for one that a single dataset does not have."""
    if said is None or said == "merged":
        return
    if said not in NORMALIZERS:
        raise ConfigError(f"normalizer is {said!r}: choose {' or '.join(NORMALIZERS)}")
    raise ConfigError(
        f"normalizer is {said!r}, and the task has one dataset: it is for several (task.datasets). "
        "Leave it out; how a feature is normalised is its own normalize"
    )


def _rate(policy_hz: Any, opened: Sequence[OpenedPart]) -> float | None:
    """Steps per second: policy_hz, or the frames per second of all datasets, if they agree."""
    if policy_hz is not None:
        if type(policy_hz) not in (int, float) or not 0 < policy_hz < math.inf:
            raise ConfigError(f"policy_hz is {policy_hz!r}: steps per second are a positive number")
        return float(policy_hz)
    rates = {part.config.name: part.features.fps for part in opened}
    first = next(iter(rates.values()))
    if any((fps is None) != (first is None) or not _same(fps, first) for fps in rates.values()):
        said = ", ".join(f"{name}: {fps or 'not recorded'}" for name, fps in rates.items())
        raise ConfigError(
            f"the datasets have different frames per second ({said}): set policy_hz, the policy's "
            "steps per second, and fps where it is not recorded"
        )
    return first


def _same(one: float | None, other: float | None) -> bool:
    return one is None or other is None or math.isclose(one, other, rel_tol=1e-6)


def _weights(parts: Sequence[TaskPart]) -> list[float]:
    """As they are given, or for none the numbers of windows."""
    given = [part.config.weight for part in parts]
    known = [weight for weight in given if weight is not None]
    if not known:
        return [len(part.train) for part in parts]
    if len(known) < len(given):
        lacking = next(part.config.name for part in parts if part.config.weight is None)
        raise ConfigError(f"dataset {lacking!r} has no weight, but others have: give all or none")
    return known


def _with_meaning(features: Features, parts: Sequence[TaskPart], shared: bool) -> Features:
    """The policy's features with the names and units of the first dataset that records them.

    shared: whether all datasets share a range, and so their units; otherwise only units that none
    contradicts are known.
    """
    own = [part.train.features.named() for part in parts]

    def filled(name: str, feature: Feature) -> Feature:
        having = [named[name] for named in own if name in named]
        fitting = [one for one in having if one.stored_shape == feature.stored_shape]
        for one in fitting:
            feature = replace(
                feature, units=feature.units or one.units, names=feature.names or one.names
            )
        if not shared and any(one.units != feature.units for one in having):
            feature = replace(feature, units="")
        return feature

    observation = {name: filled(name, one) for name, one in features.observation.items()}
    return replace(features, observation=observation, action=filled("action", features.action))


def _shares(train: WindowSource, count: int) -> list[float | None]:
    if train.weights is None:
        return [None] * count
    return [weight / sum(train.weights) for weight in train.weights]


def _part_line(part: TaskPart, share: float | None) -> str:
    name = "" if share is None else f" {part.config.name}, {share:.1%} of each batch:"
    step = "" if part.train.step == 1 else f", a step is {float(part.train.step):g} frames"
    return (
        f"data:{name} {part.n_with_windows} of {part.n_chosen} episodes have windows, "
        f"{len(part.train.episodes)} to train on and {len(part.held_out.episodes)} for validation; "
        f"{len(part.train):,} windows{step}"
    )


def _target_line(name: str, parts: Sequence[TaskPart]) -> str:
    having = [part for part in parts if name in part.train.targets]
    target = having[0].train.targets[name]
    later = f", {target.ahead} steps later" if target.ahead else ""
    units = units_text(target.feature.network_units) or "units not recorded"
    lacking = [part.config.name for part in parts if part not in having]
    rest = f"; not in {', '.join(lacking)}" if lacking else ""
    return f"target: {name}, {target.feature.size} numbers ({units}){later}{rest}"


def _name(task: Mapping[str, Any]) -> str:
    return repr(task.get("name", "?"))
