"""A teacher says at each state that another policy reaches what it would do there.

    student   sees pictures, acts           |x x x x x x x x     recorded, with the state beside
    teacher   sees the state, acts not       c c c c c c c c     recorded: its chunk from each frame

A policy that imitates demonstrations drifts to states that these do not show. Here it is told at
its own states what to do (Ross et al., 2011, "DAgger"), by a policy that sees more than it does
(Chen et al., 2020, "Learning by Cheating").
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.core.units import Units, same_units, units_text
from dipole.data.loading.features import Feature, Features
from dipole.data.loading.window_spec import WindowSpec
from dipole.envs.contract import EnvSpec
from dipole.envs.experts.teaching.acting import ActingPolicy, Actors, check_kind_of_actions
from dipole.envs.experts.teaching.labels import Labeller, chunk_length
from dipole.envs.interface import Interface
from dipole.envs.registry import stored_names
from dipole.envs.rollout.rate import check_rate
from dipole.envs.rollout.spaces import check_actions
from dipole.policy.checkpoint import (
    find_checkpoint,
    load_policy,
    origin,
    read_config,
    weights_source,
)
from dipole.policy.runtimes.runnable import set_solver


@dataclass(frozen=True)
class TeachingSpec:
    """Who teaches whom.

    teacher: A checkpoint, whose chunks are recorded. student: The one that acts; None: the teacher.
    every: Each so many-th frame of an episode is labelled.
    length: Actions of a label; None: as many as the teacher's chunks have from their frame on.
    teacher_acts: The probability that the teacher acts instead of the student, for a whole chunk.
    solver: Entries that replace those of both checkpoints.
    sha256: Of the files with their weights.
    """

    teacher: str
    student: str | None = None
    every: int = 1
    length: int | None = None
    teacher_acts: float = 0.0
    solver: Mapping[str, Any] = field(default_factory=dict)
    sha256: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("every", self.every), ("length", self.length)):
            if value is not None and value < 1:
                raise ConfigError(f"labels: {name} is {value}: it is at least 1")
        if not 0 <= self.teacher_acts <= 1:
            raise ConfigError(
                f"teacher_acts is {self.teacher_acts}: a probability is between 0 and 1"
            )
        if self.teacher_acts and self.student is None:
            raise ConfigError(
                f"teacher_acts={self.teacher_acts}, and nobody else does: give student=RUN"
            )

    @classmethod
    def of(
        cls, teacher: str | Path, student: str | Path | None = None, **more: Any
    ) -> "TeachingSpec":
        """Of runs or checkpoints; more: the other fields."""
        first = find_checkpoint(teacher)
        other = None if student is None else find_checkpoint(student)
        found = {"teacher": first} | ({} if other is None else {"student": other})
        sums = {name: weights_source(folder, "ema")["sha256"] for name, folder in found.items()}
        return cls(origin(first), None if other is None else origin(other), **more, sha256=sums)

    @property
    def policies(self) -> dict[str, str]:
        """The checkpoints by their part in it."""
        both = {"teacher": self.teacher, "student": self.student}
        return {name: path for name, path in both.items() if path is not None}

    @property
    def label_length(self) -> int:
        """Actions of a label. Raises ConfigError where the teacher's chunks have fewer."""
        return chunk_length(WindowSpec(**_config(self.teacher)["window"]), self.length)

    def check(self, environment: EnvSpec, features: Features, rate: float | None) -> None:
        """Raises ConfigError where the policies do not fit a task, or the labels the teacher.

        environment, features: Of the task. rate: Frames a second.
        """
        for name, path in self.policies.items():
            try:
                _check(path, environment, features, rate)
            except ConfigError as error:
                raise ConfigError(f"{name} {path}: {error}") from error
        self.label_length  # noqa: B018  raises

    def entries(self, name: str, environment: EnvSpec) -> tuple[str, ...]:
        """What the teacher or the student looks at, entries of the simulator's observation."""
        features = Features.from_dict(_config(self.policies[name])["features"])
        return Interface.of(features, environment, stored_names(environment)).entries

    def labeller(self) -> Labeller:
        """What labels an episode."""
        policy = load_policy(self.teacher)
        set_solver(policy, self.solver)
        return Labeller(policy, self.every, self.length)

    def actors(self, environment: EnvSpec, n_rows: int) -> Actors:
        """Who acts in so many simulators."""
        first = ActingPolicy.in_rows(self.student or self.teacher, environment, self.solver, n_rows)
        if not self.teacher_acts:
            return Actors(first)
        teacher = ActingPolicy.in_rows(self.teacher, environment, self.solver, n_rows)
        return Actors(first, teacher, self.teacher_acts)

    def check_actions(self, environment: EnvSpec, made: Any) -> None:
        """Raises ConfigError where actions are not what an environment takes that is made."""
        for path in self.policies.values():
            features = Features.from_dict(_config(path)["features"])
            check_actions(environment.id, getattr(made, "action_space", None), features)


def _config(checkpoint: str) -> dict[str, Any]:
    return read_config(find_checkpoint(checkpoint))


def _check(path: str, environment: EnvSpec, features: Features, rate: float | None) -> None:
    config = _config(path)
    own, trained_in = Features.from_dict(config["features"]), config.get("environment")
    if trained_in is not None:
        there = EnvSpec.read(trained_in)
        ours, theirs = environment.family or environment.id, there.family or there.id
        if ours != theirs:
            raise ConfigError(f"it was trained in {theirs!r}, and the task is in {ours!r}")
    check_kind_of_actions(config, environment.actions, "the task's")
    action = features.action
    check_same_action(own.action, action.stored_shape, action.units, "the task's")
    check_rate(own, rate)


def check_same_action(own: Feature, shape: tuple[int, ...], units: Units, whose: str) -> None:
    """Raises ConfigError where a policy's action has another shape or other units than these.

    own: The policy's. whose: The others', for the message.
    """
    if own.stored_shape != shape:
        raise ConfigError(
            f"its actions have the shape {list(own.stored_shape)}, and {whose} {list(shape)}"
        )
    if not same_units(own.units, units, shape[-1]):
        raise ConfigError(
            f"its actions are in {units_text(own.units)}, and {whose} in {units_text(units)}"
        )
