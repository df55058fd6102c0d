"""Chunks that begin with known actions: training-time real-time chunking (arXiv 2512.05964).

While a chunk is computed, the robot executes actions of the chunk before. A policy that is trained
with prefixes is given these actions clean, at the time of the least noise, and draws the rest:

    action      0      1      2      3      4      5  ...
    x           clean  clean  clean  noisy  noisy  noisy
    time        0      0      0      t      t      t
    loss        -      -      -      yes    yes    yes

Nothing is added at inference: a chunk takes as long as without a prefix.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.diffusion.level import Level


@dataclass(frozen=True)
class PrefixConfig:
    """Prefixes in training.

    probability: Share of the chunks with a prefix; 0: the policy is not trained for it.
    max_length: Longest prefix, in actions from the beginning of the chunk: the To - 1 that belong
        to earlier observations, then as many as the longest delay. Lengths are uniform from 0.
    """

    probability: float = 0.0
    max_length: int = 9

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError(
                f"policy.head.prefix.probability is {self.probability}: it lies between 0 and 1"
            )
        if self.max_length < 1:
            raise ConfigError(f"policy.head.prefix.max_length is {self.max_length}: at least 1")

    @property
    def is_trained(self) -> bool:
        return self.probability > 0

    def check_horizon(self, horizon: int) -> None:
        """Refuse prefixes that leave nothing to draw."""
        if self.is_trained and self.max_length >= horizon:
            raise ConfigError(
                f"policy.head.prefix.max_length is {self.max_length}: it has to be less than the "
                f"horizon, {horizon}"
            )

    def draw(self, rows: int, horizon: int, device: torch.device) -> Tensor | None:
        """Which tokens are given, bool [B, H], from torch's global generator; None: untrained."""
        if not self.is_trained:
            return None
        lengths = torch.randint(self.max_length + 1, (rows,), device=device)
        chosen = torch.rand(rows, device=device) < self.probability
        return tokens_before(lengths * chosen, horizon)

    def tokens_of(self, mask: Tensor) -> Tensor:
        """Which tokens are given, bool [B, H], by a mask of known parts [B, H, A].

        Raises ConfigError for what is no prefix of whole actions, each given entirely, or is longer
        than those of training.
        """
        tokens = (mask > 0).any(dim=2)  # [B, H]
        lengths = tokens.sum(dim=1)  # [B]
        prefix = tokens_before(lengths, tokens.shape[1])
        if not torch.equal(mask.float(), prefix[..., None].expand_as(mask).float()):
            raise ConfigError(
                "guidance 'prefix' takes the first actions of a chunk, each known entirely (weight "
                "1), and none after them: other parts need method identity, jacobian or replace"
            )
        longest = int(lengths.max())
        if longest > self.max_length:
            raise ConfigError(
                f"a prefix of {longest} actions is known, but the policy was trained for at most "
                f"{self.max_length} (policy.head.prefix.max_length)"
            )
        return prefix


def tokens_before(lengths: Tensor, horizon: int) -> Tensor:
    """bool [B, H], true for the first lengths[b] tokens of row b."""
    return torch.arange(horizon, device=lengths.device) < lengths[:, None]


def with_prefix(level: Level, prefix: Tensor, clean: Level) -> Level:
    """A level for each token, [B, H]: the clean one in the prefix.

    level: Of rows, [B], or of all, a float. prefix: bool [B, H].
    """

    def chosen(given: float, other: Tensor | float) -> Tensor:
        other = torch.as_tensor(other, device=prefix.device)
        return torch.where(prefix, given, other[:, None] if other.dim() else other)

    return Level(
        chosen(clean.time, level.time),
        chosen(clean.signal, level.signal),
        chosen(clean.noise, level.noise),
    )
