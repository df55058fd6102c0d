"""How a client reaches a policy server; values are in configs/deploy.yaml."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from dipole.data.errors import ConfigError


@dataclass(frozen=True)
class ClientConfig:
    """Seconds. start_timeout: for a server to answer at all, at the beginning; open_timeout: for
    one attempt to connect; answer_timeout: for an answer, after which the connection is given up;
    ping_interval, ping_timeout: a server that answers no ping is gone, whatever the network says.
    """

    start_timeout: float = 10.0
    open_timeout: float = 3.0
    answer_timeout: float = 10.0
    ping_interval: float = 1.0
    ping_timeout: float = 2.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigError(f"{entry.name} is {value!r}; it must be a positive number")


@dataclass(frozen=True)
class OpenpiTerms:
    """What a server of openpi is asked, as its greeting does not say it.

    observation: {its key: the robot's channel}; empty: observation/NAME for each channel; prompt:
    the task in words, where its policy takes some; n_action_steps: how many actions of a chunk run
    before the next is asked for (default: half of them).
    """

    observation: Mapping[str, str] = field(default_factory=dict)
    prompt: str | None = None
    n_action_steps: int | None = None
