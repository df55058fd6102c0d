"""Cross-attention: queries are the chunk's frames, keys and values are the context's tokens.

The chunk keeps its length, whatever the number of tokens. Keys and values do not depend on the
chunk and are computed once per chunk: `project_keys_values`, then `bind_attention`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context

Attend = Callable[[Tensor], Tensor]
# keys, values: [B, heads, K + 1, C / heads]; then, where the context has a mask, the mask:
# bool [B, 1, 1, K + 1], true where a token counts.
KeysValues = tuple[Tensor, ...]


class CrossAttention(nn.Module):
    """x + attention(x, tokens): [B, N, C] -> [B, N, C]; the identity at initialisation.

    A key and a value of zeros follow the tokens' own and always count: where no token does, a frame
    attends to nothing.

    channels: C, the width of x.
    token_dim: E, the width of a token.
    heads: A divisor of C.
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

    def keys_values(self, tokens: Tensor, mask: Tensor | None = None) -> KeysValues:
        """tokens: [B, K, E]; mask: bool [B, K], true where a token counts; None: all do."""
        projected = F.pad(self.key_value(self.token_norm(tokens)), (0, 0, 0, 1))  # [B, K + 1, 2 C]
        keys, values = (split_heads(half, self.heads) for half in projected.chunk(2, dim=2))
        if mask is None:
            return keys, values
        return keys, values, F.pad(mask, (0, 1), value=True)[:, None, None]

    def forward(self, x: Tensor, keys_values: KeysValues) -> Tensor:
        query = split_heads(self.query(self.norm(x)), self.heads)  # [B, heads, N, C / heads]
        keys, values, *mask = keys_values
        attended = F.scaled_dot_product_attention(query, keys, values, mask[0] if mask else None)
        update: Tensor = self.out(merge_heads(attended))  # [B, N, C]
        return x + update


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, N, C] -> [B, heads, N, C / heads]"""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, heads, N, C / heads] -> [B, N, C]"""
    return x.transpose(1, 2).flatten(2)


def project_keys_values(layers: nn.ModuleList, context: Any) -> tuple[KeysValues, ...]:
    """Of each layer; () without layers. Raises ConfigError for a context without tokens."""
    if not len(layers):
        return ()
    if not isinstance(context, Context) or context.tokens is None:
        raise ConfigError("the denoiser attends to tokens, but the context has none")
    return tuple(layer.keys_values(context.tokens, context.token_mask) for layer in _typed(layers))


def bind_attention(layers: nn.ModuleList, keys_values: Sequence[KeysValues]) -> list[Attend]:
    """Each layer as a function of x alone, [B, N, C] -> [B, N, C]."""
    return [
        partial(layer, keys_values=own)
        for layer, own in zip(_typed(layers), keys_values, strict=True)
    ]


def _typed(layers: nn.ModuleList) -> list[CrossAttention]:
    return [layer for layer in layers if isinstance(layer, CrossAttention)]


def attention_layers(widths: Sequence[int], token_dim: int | None, heads: int) -> nn.ModuleList:
    """A layer of each width; none where the context has no tokens."""
    if token_dim is None:
        return nn.ModuleList()
    return nn.ModuleList(CrossAttention(width, token_dim, heads) for width in widths)


def attention_units(layers: nn.ModuleList) -> list[nn.Module]:
    """What is sharded by itself: products, as keys and values are not computed in `forward`."""
    return [unit for each in _typed(layers) for unit in (each.query, each.key_value, each.out)]


def identity(x: Tensor) -> Tensor:
    return x
