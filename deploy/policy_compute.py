"""A policy as the control loop's supplier of chunks. The only file of this room with torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dipole.data.errors import ConfigError
from dipole.deploy.inference import Arrays, PolicySpec
from dipole.deploy.plan import Ticket
from dipole.policy.executor import ChunkPolicy, predict_group


class PolicyCompute:
    """(ticket, observation {name: [To, *shape]}) -> {"action": [H, A]}, as the executor would.

    The noise comes from one generator, seeded anew with seed, seed + 1, ... at each epoch: as that
    of an executor's row in each episode. group_size: see Executor; 1 is the fastest for one robot.
    """

    def __init__(self, policy: ChunkPolicy, seed: int = 0, group_size: int = 1) -> None:
        self.policy = policy
        self._group_size = group_size
        self._seed = seed
        self._epoch: int | None = None
        self._generator = torch.Generator()

    def __call__(self, ticket: Ticket, observation: Arrays) -> Mapping[str, Any]:
        if ticket.epoch != self._epoch:
            self._epoch = ticket.epoch
            self._generator.manual_seed(self._seed)
            self._seed += 1
        batch = {name: np.asarray(value)[None] for name, value in observation.items()}
        return {"action": predict_group(self.policy, batch, [self._generator], self._group_size)[0]}

    def fresh(self, observation: Arrays) -> Mapping[str, Any]:
        """A chunk that nobody uses, to warm up: it leaves the noise of the others as it is."""
        batch = {name: np.asarray(value)[None] for name, value in observation.items()}
        return {
            "action": predict_group(self.policy, batch, [torch.Generator()], self._group_size)[0]
        }


def spec_of(policy: Any) -> PolicySpec:
    """What a policy sees and does, for who has no torch."""
    features = policy.features
    observation = {name: tuple(feature.shape) for name, feature in features.observation.items()}
    if len(features.action.shape) != 1:
        raise ConfigError(f"actions of shape {list(features.action.shape)} cannot be commanded")
    return PolicySpec(observation, int(features.action.shape[0]), policy.window)
