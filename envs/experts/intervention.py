"""A policy acts first, and the expert takes over from wherever it got to.

    policy  . . . . . . . .|                      not recorded
    expert                 |x x x x x x x x x     the demonstration

An imitator that strays meets states of which demonstrations from start states show nothing. These
begin there (after Kelly et al., 2019, "HG-DAgger", with a clock in place of the human's judgement).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.policy.checkpoint import load_policy
from dipole.policy.execution.executor import ChunkPolicy, Executor


@dataclass(frozen=True)
class TakeoverSpec:
    """policy: a run or checkpoint; steps: it acts for 0 to so many, a function of the seed."""

    policy: str
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"takeover steps is {self.steps}; the policy needs at least 1")


class PolicyActs:
    """What the policy does in one episode; None when its time is over. See `record_episode`."""

    def __init__(self, spec: TakeoverSpec, seed: int) -> None:
        self._left = int(np.random.default_rng([seed, 2]).integers(spec.steps + 1))
        self._seed = seed
        self._executor, self._names = _executor(spec.policy)
        self._begun = False

    def __call__(self, observation: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """The policy's action [A] upon an observation with all that it looks at."""
        if self._left == 0:
            return None
        self._left -= 1
        seen = {name: observation[name] for name in self._names}
        if self._begun:
            self._executor.observe(0, seen)
        else:
            self._executor.reset(0, seen, self._seed)
            self._begun = True
        return np.asarray(self._executor.act([0])[0])


def observed_by(spec: TakeoverSpec) -> tuple[str, ...]:
    """What the policy looks at."""
    return _executor(spec.policy)[1]


@functools.cache
def _executor(checkpoint: str) -> tuple[Executor, tuple[str, ...]]:
    """One per process, on its processor; one row alone, which is the fastest."""
    policy = load_policy(checkpoint)
    chunks: ChunkPolicy = policy
    return Executor(chunks, 1, inference_batch_size=1), tuple(policy.features.observation)
