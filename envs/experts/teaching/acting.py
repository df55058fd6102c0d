"""Policies that act in a recording: one alone, or another in its place for whole chunks.

    student   s s s s . . . . s s s s      Ta = 4
    teacher   . . . . t t t t . . . .      drawn for each chunk, with a probability

A row is one simulator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.recording.record import Observation
from dipole.envs.contract import EnvSpec
from dipole.envs.interface import Interface
from dipole.envs.registry import stored_names
from dipole.policy.checkpoint import find_checkpoint, load_policy, read_config
from dipole.policy.core.threads import torch_threads
from dipole.policy.execution.executor import ROWS, Executor
from dipole.policy.runtimes.runnable import set_solver


@dataclass(frozen=True)
class ActingPolicy:
    """A policy on this process's processor.

    interface: Between an environment and the policy. executor: Of its rows.
    """

    policy: Any
    interface: Interface
    executor: Executor

    @classmethod
    def alone(cls, checkpoint: str | Path, spec: EnvSpec) -> "ActingPolicy":
        """The policy of a run or checkpoint in one row, without others the fastest. spec: Of the
        environment in which it acts."""
        return cls._of(checkpoint, spec, {}, 1, 1)

    @classmethod
    def in_rows(
        cls, checkpoint: str | Path, spec: EnvSpec, solver: Mapping[str, Any], n_rows: int
    ) -> "ActingPolicy":
        """In several rows; a row's actions are the same for any number of others. solver: Entries
        that replace the checkpoint's own."""
        return cls._of(checkpoint, spec, solver, n_rows, ROWS)

    @classmethod
    def _of(
        cls, path: str | Path, spec: EnvSpec, solver: Mapping[str, Any], n_rows: int, batch: int
    ) -> "ActingPolicy":
        try:
            check_kind_of_actions(read_config(find_checkpoint(path)), spec.actions, "the task's")
        except ConfigError as error:
            raise ConfigError(f"policy {path}: {error}") from error
        policy = load_policy(path)
        set_solver(policy, solver)
        interface = Interface.of(
            policy.features, spec, stored_names(spec), tuple(getattr(policy, "optional", ()))
        )
        return cls(policy, interface, Executor(policy, n_rows, inference_batch_size=batch))

    def begin(self, observation: Observation, seed: int, row: int = 0) -> None:
        """An episode's first observation; seed: of the policy's noise."""
        self.executor.reset(row, self.interface.observe(observation), seed)

    def observe(self, observation: Observation, row: int = 0) -> None:
        """The next observation of the row's episode."""
        self.executor.observe(row, self.interface.observe(observation))

    def act(self) -> np.ndarray:
        """The first row's next action [A] upon what was observed."""
        with torch_threads(1):  # as worker processes have it: others may round differently
            return np.asarray(self.executor.act([0])[0])

    def plan(self, rows: Sequence[int]) -> np.ndarray:
        """The next actions of these rows upon what was observed, [len(rows), Ta, A]; those of some
        may be NaN or infinite, which are no business of the others."""
        with torch_threads(1):
            return np.asarray(self.executor.plan_unchecked(rows))


def check_kind_of_actions(config: Mapping[str, Any], actions: str, whose: str) -> None:
    """Raises ConfigError where a policy's actions are of another kind, which shapes do not tell.

    config: Of its checkpoint. actions: The kind that is needed, "absolute" or "delta". whose: Who
        needs it, for the message.
    """
    trained_in = config.get("environment")
    if trained_in is not None and (own := EnvSpec.read(trained_in).actions) != actions:
        raise ConfigError(
            f"its actions are {own}, and {whose} {actions} (environment.options.actions)"
        )


class Actors:
    """Plans as a policy, or as another one in its place.

    share: The probability that the other one does, drawn for each chunk anew: beta of DAgger (Ross
        et al., 2011, algorithm 3.1).
    """

    def __init__(
        self, policy: ActingPolicy, other: ActingPolicy | None = None, share: float = 0.0
    ) -> None:
        self._policy, self._other, self._share = policy, other, share
        self._looking = [policy] if other is None else [policy, other]
        self._random: dict[int, np.random.Generator] = {}

    @property
    def finite(self) -> dict[str, str]:
        """{name: entry} of numbers that they look at, which have to be finite."""
        return {n: entry for p in self._looking for n, entry in p.interface.finite.items()}

    def begin(self, observation: Observation, seed: int, row: int = 0) -> None:
        """A row's episode, which is a function of the seed, and its first observation."""
        self._random[row] = np.random.default_rng([seed, 3])
        for each in self._looking:
            each.begin(observation, seed, row)

    def observe(self, observation: Observation, row: int = 0) -> None:
        """The row's next observation."""
        for each in self._looking:
            each.observe(observation, row)

    def plan(self, rows: Sequence[int]) -> dict[int, np.ndarray]:
        """The next actions of each of these rows, [Ta, A] by row; each policy is called once. They
        may be NaN or infinite."""
        chosen: dict[int, ActingPolicy] = {row: self._chosen(row) for row in rows}
        planned: dict[int, np.ndarray] = {}
        for each in self._looking:
            own = [row for row in rows if chosen[row] is each]
            if own:
                planned |= dict(zip(own, each.plan(own), strict=True))
        return planned

    def _chosen(self, row: int) -> ActingPolicy:
        other = self._random[row].random() < self._share
        return self._other if other and self._other is not None else self._policy
