"""A policy acts first, and the expert takes over from wherever it got to.

    policy  . . . . . . . .|                      not recorded
    expert                 |x x x x x x x x x     the demonstration

An imitator that strays meets states of which demonstrations from start states show nothing. These
begin there (after Kelly et al., 2019, "HG-DAgger", with a clock in place of the human's judgement).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.envs.contract import EnvSpec
from dipole.envs.interface import Interface
from dipole.envs.registry import stored_names
from dipole.policy.checkpoint import load_policy
from dipole.policy.core.threads import torch_threads
from dipole.policy.execution.executor import ChunkPolicy, Executor


@dataclass(frozen=True)
class TakeoverSpec:
    """policy: a run or checkpoint; steps: it acts for 0 to so many, a function of the seed."""

    policy: str
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"takeover steps is {self.steps}; the policy needs at least 1")


class ActingPolicy:
    """The policy of a takeover, on this process's processor; one row alone, which is the fastest.

    spec: Of the environment in which it acts.
    """

    def __init__(self, takeover: TakeoverSpec, spec: EnvSpec) -> None:
        policy = load_policy(takeover.policy)
        chunks: ChunkPolicy = policy
        optional = tuple(getattr(policy, "optional", ()))
        self.steps = takeover.steps
        self.interface = Interface.of(policy.features, spec, stored_names(spec), optional)
        self.executor = Executor(chunks, 1, inference_batch_size=1)

    def begin(self, seed: int) -> "PolicyActs":
        """One episode of it."""
        return PolicyActs(self, seed)


class PolicyActs:
    """What the policy does in one episode; None when its time is over. See `record_episode`."""

    def __init__(self, acting: ActingPolicy, seed: int) -> None:
        self._left = int(np.random.default_rng([seed, 2]).integers(acting.steps + 1))
        self._acting, self._seed = acting, seed
        self._begun = False

    def __call__(self, observation: Any) -> np.ndarray | None:
        """The policy's action [A] upon an observation with all that it looks at."""
        if self._left == 0:
            return None
        self._left -= 1
        executor, seen = self._acting.executor, self._acting.interface.observe(observation)
        if self._begun:
            executor.observe(0, seen)
        else:
            executor.reset(0, seen, self._seed)
            self._begun = True
        with torch_threads(1):  # as worker processes have it: others may round differently
            return np.asarray(executor.act([0])[0])
