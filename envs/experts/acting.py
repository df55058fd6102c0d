"""Policies that act in a recording: one alone, or another in its place for whole chunks.

student   s s s s . . . . s s s s      Ta = 4
teacher   . . . . t t t t . . . .      drawn for each chunk, with a probability
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.recording.record import Observation
from dipole.envs.contract import EnvSpec
from dipole.envs.interface import Interface
from dipole.envs.registry import stored_names
from dipole.policy.checkpoint import load_policy
from dipole.policy.core.threads import torch_threads
from dipole.policy.execution.executor import Executor
from dipole.policy.runtimes.runnable import set_solver


@dataclass(frozen=True)
class ActingPolicy:
    """A policy on this process's processor; one row alone, the fastest for one.

    interface: Between an environment and the policy. executor: Of one row.
    """

    policy: Any
    interface: Interface
    executor: Executor

    @classmethod
    def of(
        cls, checkpoint: str | Path, spec: EnvSpec, solver: Mapping[str, Any] | None = None
    ) -> "ActingPolicy":
        """The policy of a run or checkpoint. spec: Of the environment in which it acts. solver:
        Entries that replace the checkpoint's own."""
        policy = load_policy(checkpoint)
        set_solver(policy, solver or {})
        interface = Interface.of(
            policy.features, spec, stored_names(spec), tuple(getattr(policy, "optional", ()))
        )
        return cls(policy, interface, Executor(policy, 1, inference_batch_size=1))

    def begin(self, observation: Observation, seed: int) -> None:
        """An episode's first observation; seed: of the policy's noise."""
        self.executor.reset(0, self.interface.observe(observation), seed)

    def observe(self, observation: Observation) -> None:
        """The next observation of the episode."""
        self.executor.observe(0, self.interface.observe(observation))

    def act(self) -> np.ndarray:
        """The next action [A] upon what was observed."""
        with torch_threads(1):  # as worker processes have it: others may round differently
            return np.asarray(self.executor.act([0])[0])

    def plan(self) -> np.ndarray:
        """The next actions [Ta, A] upon what was observed."""
        with torch_threads(1):
            return np.asarray(self.executor.plan([0])[0])


class Actors:
    """Acts as a policy, or as another one in its place; see `Demonstrator`.

    share: The probability that the other one acts, drawn for each chunk anew: beta of DAgger (Ross
        et al., 2011, algorithm 3.1).
    """

    def __init__(
        self, policy: ActingPolicy, other: ActingPolicy | None = None, share: float = 0.0
    ) -> None:
        self._policy, self._other, self._share = policy, other, share
        self._looking = [policy] if other is None else [policy, other]
        self._planned: list[np.ndarray] = []
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Before an episode, which is a function of the seed."""
        self._seed, self._begun, self._planned = seed, False, []
        self._random = np.random.default_rng([seed, 3])

    def act(self, observation: Observation) -> np.ndarray:
        """The action [A] upon an observation with all that the policies look at."""
        for each in self._looking:
            if self._begun:
                each.observe(observation)
            else:
                each.begin(observation, self._seed)
        self._begun = True
        if not self._planned:
            self._planned = list(self._chosen().plan())
        return self._planned.pop(0)

    def _chosen(self) -> ActingPolicy:
        other = self._random.random() < self._share
        return self._other if other and self._other is not None else self._policy
