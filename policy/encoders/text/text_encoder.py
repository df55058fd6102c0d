"""What text encoders share: instructions become tokens with a mask, and their mean a vector."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dipole.data import Features
from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context, ContextSpec
from dipole.policy.encoders.base import Encoder


class TextEncoder(Encoder):
    """Instructions, uint8 [B, To, L], of the newest frame -> a vector, tokens, or both.

    dim: Numbers of the vector, which is a projection of the mean over tokens; 0 for none.
    token_dim: Size E of the tokens, for denoisers with cross-attention; None for none.

    A subclass has `embed`. A text that is empty, or missing, has no tokens that count.
    """

    kinds = frozenset({"text"})

    def __init__(self, features: Features, dim: int, token_dim: int | None) -> None:
        observed = features.observation
        others = [name for name, feature in observed.items() if feature.kind != "text"]
        if others:
            raise ConfigError(
                f"a text encoder encodes text alone, not {', '.join(others)}: join it with others "
                "(name: join, docs/images.md)"
            )
        if dim < 0 or (not dim and not token_dim):
            raise ConfigError(
                f"a text encoder of dim {dim} and token_dim {token_dim} gives nothing: set one"
            )
        super().__init__(ContextSpec(dim, token_dim))
        self.names = tuple(observed)
        self.width = token_dim or dim
        self.project = nn.Linear(self.width, dim) if dim else None

    def embed(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Bytes, int64 [B, L], zeros at the end -> tokens [B, K, width], mask bool [B, K]."""
        raise NotImplementedError

    def forward(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> Context:
        found = [self._embedded(name, observation[name], missing or {}) for name in self.names]
        tokens = torch.cat([each for each, _ in found], 1)
        mask = torch.cat([each for _, each in found], 1)
        vector = None if self.project is None else self.project(masked_mean(tokens, mask))
        if self.spec.token_dim is None:
            return Context(vector)
        return Context(vector, tokens, mask)

    def _embedded(
        self, name: str, text: Tensor, missing: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        newest = text[:, -1].long()
        if name in missing:
            newest = newest.masked_fill(missing[name][:, None], 0)
        return self.embed(newest)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean over tokens that count, [B, E]; zeros where none does."""
    counts = mask.to(tokens.dtype)[..., None]
    return (tokens * counts).sum(1) / counts.sum(1).clamp(min=1)
