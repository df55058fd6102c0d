"""Cross-attention from a chunk's frames to the context's tokens.

The frames ask and the tokens answer: tokens are keys and values alone, so that the chunk keeps its
length. Their keys and values do not depend on the chunk and are computed once per chunk.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context

Attend = Callable[[Tensor], Tensor]


class KeysValues(NamedTuple):
    """keys, values: [B, heads, K + 1, C / heads]; mask: [B, 1, 1, K + 1] true where one counts.

    The last is nothing, of zeros: what a frame attends to where no token says anything.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None


class CrossAttention(nn.Module):
    """x + what x asks of the tokens: [T, B, C] -> [T, B, C]. At first it adds nothing.

    channels: C; token_dim: E; heads: a divisor of C.
    """

    def __init__(self, channels: int, token_dim: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ConfigError(f"attention_heads is {heads}: it has to divide the width {channels}")
        self.heads = heads
        self.norm, self.token_norm = nn.LayerNorm(channels), nn.LayerNorm(token_dim)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(token_dim, 2 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def keys_values(self, tokens: Tensor, mask: Tensor | None) -> KeysValues:
        """tokens: [B, K, E]; mask: [B, K], true where a token counts, or None for all."""
        said = self.key_value(self.token_norm(tokens))
        said = F.pad(said, (0, 0, 0, 1))  # [B, K + 1, 2 C]
        keys, values = (self._by_head(half) for half in said.chunk(2, dim=2))
        if mask is not None:
            mask = F.pad(mask, (0, 1), value=True)[:, None, None]
        return KeysValues(keys, values, mask)

    def forward(self, x: Tensor, said: KeysValues) -> Tensor:
        query = self._by_head(self.query(self.norm(x)).transpose(0, 1))  # [B, heads, T, C / heads]
        heard = F.scaled_dot_product_attention(query, said.keys, said.values, said.mask)
        update: Tensor = self.out(heard.permute(2, 0, 1, 3).flatten(2))  # [T, B, C]
        return x + update

    def _by_head(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, heads, N, C / heads]"""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def answers(layers: nn.ModuleList, context: Context | Tensor) -> list[Tensor]:
    """Keys and values, and the mask where there is one, for each layer, one after another. Raises
    ConfigError for a context without tokens."""
    if not len(layers):
        return []
    if not isinstance(context, Context) or context.tokens is None:
        raise ConfigError("the denoiser attends to tokens, but the context has none")
    said = [layer.keys_values(context.tokens, context.token_mask) for layer in _typed(layers)]
    return [tensor for layer in said for tensor in layer if tensor is not None]


def attends(layers: nn.ModuleList, said: Sequence[Tensor]) -> list[Attend]:
    """Each layer as a function of x alone, given what `answers` says."""
    each = len(said) // len(layers) if len(layers) else 0
    own = [said[i * each : (i + 1) * each] for i in range(len(layers))]
    return [
        partial(layer, said=KeysValues(keys, values, mask[0] if mask else None))
        for layer, (keys, values, *mask) in zip(_typed(layers), own, strict=True)
    ]


def _typed(layers: nn.ModuleList) -> list[CrossAttention]:
    return [layer for layer in layers if isinstance(layer, CrossAttention)]


def attention_layers(widths: list[int], token_dim: int | None, heads: int) -> nn.ModuleList:
    """A layer of each width; none where the encoder has no tokens."""
    if token_dim is None:
        return nn.ModuleList()
    return nn.ModuleList(CrossAttention(width, token_dim, heads) for width in widths)


def identity(x: Tensor) -> Tensor:
    return x
