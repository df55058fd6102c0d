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
from dipole.envs.experts.teaching.acting import ActingPolicy


@dataclass(frozen=True)
class TakeoverSpec:
    """policy: a run or checkpoint; steps: it acts for 0 to so many, a function of the seed."""

    policy: str
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"takeover steps is {self.steps}; the policy needs at least 1")


class Takeover:
    """The policy of a takeover in an environment. spec: Of the environment."""

    def __init__(self, takeover: TakeoverSpec, spec: EnvSpec) -> None:
        self.steps = takeover.steps
        self.policy = ActingPolicy.alone(takeover.policy, spec)

    def begin(self, seed: int) -> "PolicyActs":
        """One episode of it."""
        return PolicyActs(self.policy, self.steps, seed)


class PolicyActs:
    """What the policy does in one episode; None when its time is over. See `record_episode`."""

    def __init__(self, policy: ActingPolicy, steps: int, seed: int) -> None:
        self._left = int(np.random.default_rng([seed, 2]).integers(steps + 1))
        self._policy, self._seed = policy, seed
        self._begun = False

    def __call__(self, observation: Any) -> np.ndarray | None:
        """The policy's action [A] upon an observation with all that it looks at."""
        if self._left == 0:
            return None
        self._left -= 1
        if self._begun:
            self._policy.observe(observation)
        else:
            self._policy.begin(observation, self._seed)
            self._begun = True
        return self._policy.act()
