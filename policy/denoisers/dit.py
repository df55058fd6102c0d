"""A diffusion transformer over the actions of a chunk (DiT: Peebles & Xie, 2023, arXiv 2212.09748).

One token is one action. Time and the context's vector make the condition, from which every block
reads the shift and scale of its two norms and the gates of its two branches (adaLN-Zero); frames
are added to the tokens that they are aligned with, and the context's tokens are attended to:

    chunk ─ embed ─(+)─ block ─ block ─ ... ─ norm ─ linear ─> prediction
                    │     │       │             │
       positions, frames  └───────┴── condition ┴─ time + vector

A block, with (shift, scale, gate) twice from the condition:

    x = x + gate   * self_attention(norm(x) * (1 + scale) + shift)
    x = x + cross_attention(norm(x), context's tokens)                 where there are some
    x = x + gate   * mlp(norm(x) * (1 + scale) + shift)

A time per token, as a prefix that is kept clean needs, is a condition per token.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import DENOISERS
from dipole.policy.denoisers.attention import (
    Attend,
    attention_layers,
    attention_units,
    bind_attention,
    identity,
    merge_heads,
    project_keys_values,
    split_heads,
)
from dipole.policy.denoisers.base import Denoiser, Prepared
from dipole.policy.denoisers.timestep_embedding import (
    other_embeddings,
    summed_embeddings,
    zero_embeddings,
)

POSITIONS = ("sinusoidal", "learned")


@DENOISERS.add("dit")
class DiffusionTransformer(Denoiser):
    """(chunk [B, H, A], time [B] or [B, H], Context) -> prediction [B, H, A]; 0 at initialisation.

    horizon: Frames of a chunk. With sinusoidal positions, fixed as in the paper, others may be
        given too; with learned ones, which start from the same values, shorter ones.
    context: Sizes of the context's parts; without tokens there is no cross-attention.
    width: D, numbers of a token inside. depth: Blocks. heads: Of all attention, a divisor of D.
    mlp_ratio: Hidden layer of a block's network, in widths. positions: sinusoidal or learned.
    time_embed_dim: Sines and cosines of the time.
    time_inputs: Numbers of a time, see `Denoiser`.

    Residuals: tensors [B, H, D], one for each block from the first on, added to its output; where
    there are fewer than blocks, the last blocks get none.

    Raises ConfigError for sizes that do not fit.
    """

    rows_are_independent = True  # training may divide a batch among threads
    positions: Tensor

    def __init__(
        self,
        action_dim: int,
        horizon: int,
        context: ContextSpec,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        positions: str = "sinusoidal",
        time_embed_dim: int = 256,
        time_inputs: int = 1,
    ) -> None:
        super().__init__()
        _check_sizes(width, depth, heads, mlp_ratio, time_embed_dim, positions)
        self.chunk_embedding = nn.Linear(action_dim, width)
        self.time_inputs = time_inputs
        self.time_embedding = TimeEmbedding(time_embed_dim, width, time_inputs)
        self.vector_embedding = _vector_embedding(context.vector_dim, width)
        self.frame_embedding = _projection(context.frame_dim, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.attention = attention_layers([width] * depth, context.token_dim, heads)
        self.final = FinalLayer(width, action_dim)
        places = sinusoids(torch.arange(horizon), width)  # [H, D]
        if positions == "learned":
            self.positions = nn.Parameter(places)
        else:
            self.register_buffer("positions", places, persistent=False)
        self.initialize()

    def initialize(self) -> None:
        """The paper's weights at the beginning."""
        for module in self.modules():
            if isinstance(module, nn.Linear):  # all products: Xavier's uniform, without bias
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for layer in self.time_embedding.mlp:  # the time's network: as in the paper
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        zero_embeddings(self.time_embedding.others)
        for block in _blocks(self.blocks):  # gates are 0: a block is the identity
            nn.init.zeros_(block.modulation.weight)
        for layer in self.attention:  # and so is its cross-attention
            nn.init.zeros_(layer.out.weight)  # type: ignore[union-attr, arg-type]
        nn.init.zeros_(self.final.modulation.weight)
        nn.init.zeros_(self.final.linear.weight)  # and the prediction is 0

    def sharding_units(self) -> Sequence[nn.Module]:
        return [*self.blocks, *attention_units(self.attention)]

    def prepare_time(self, times: Tensor) -> Prepared:
        """The embedding of the times, [..., D]."""
        embedded: Tensor = self.time_embedding(times)
        return embedded

    def prepared_after_prefix(self, prefix: Tensor, clean: Prepared, time: Prepared) -> Prepared:
        """(bool [B, H], [1, 2, D]): two conditions a row, rather than one a token, are cheaper."""
        return prefix, torch.stack([clean, time], dim=1)

    def prepare_context(self, context: Context) -> Prepared:
        """(added to the time's embedding, [B, D]; added to the tokens, [B, H, D]; keys and values
        of each block). A part that the network has not is ().

        The shift, scale and gate are no sum of a part from the time and one from the context, for
        the activation is after the addition: they are computed at each evaluation.
        """
        return (
            self._embedded(self.vector_embedding, context.vector, "a vector"),
            self._embedded(self.frame_embedding, context.frames, "frames"),
            project_keys_values(self.attention, context.map(self._cast)),
        )

    def predict(
        self, x: Tensor, time: Prepared, context: Prepared, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        vector, frames, keys_values = context
        prefix, time = time if isinstance(time, tuple) else (None, time)
        condition = time if time.dim() == 3 else time[:, None]  # [B, 1, D], [B, H, D], [B, 2, D]
        if self.vector_embedding is not None:
            condition = condition + vector[:, None]
        condition = F.silu(condition)
        x = self.chunk_embedding(self._cast(x)) + self._places(x.shape[1])  # [B, H, D]
        if self.frame_embedding is not None:
            x = x + frames
        attending = bind_attention(self.attention, keys_values) or [identity] * len(self.blocks)
        for block, attend, residual in zip(
            self.blocks, attending, self._padded(residuals), strict=True
        ):
            x = block(x, condition, prefix, attend)  # [B, H, D]
            x = x if residual is None else x + residual
        prediction: Tensor = self.final(x, condition, prefix)  # [B, H, A]
        return prediction

    def _padded(self, residuals: Sequence[Tensor]) -> list[Tensor | None]:
        """One for each block."""
        lacking = len(self.blocks) - len(residuals)
        if lacking < 0:
            raise ConfigError(f"{len(residuals)} residuals for {len(self.blocks)} blocks")
        return [*residuals, *[None] * lacking]

    def _places(self, frames: int) -> Tensor:
        """[H, D], of as many positions as there are frames."""
        known = len(self.positions)
        if frames <= known:
            return self.positions[:frames]
        if isinstance(self.positions, nn.Parameter):
            raise ConfigError(
                f"the chunk has {frames} frames, but the network learned {known} positions: "
                "train it with this horizon, or choose positions: sinusoidal"
            )
        places = torch.arange(frames, device=self.positions.device)
        return sinusoids(places, self.positions.shape[1]).to(self.positions.dtype)

    def _embedded(self, layer: nn.Module | None, part: Tensor | None, name: str) -> Prepared:
        if layer is None:
            return ()
        if part is None:
            raise ConfigError(f"the denoiser was built for {name}, but the context has none")
        return layer(self._cast(part))

    def _cast(self, x: Tensor) -> Tensor:
        """In the precision of the weights; under autocast that is autocast's affair."""
        return x if torch.is_autocast_enabled(x.device.type) else x.to(self.final.linear.weight)


class Block(nn.Module):
    """Self-attention, cross-attention and a network of two layers, each added to its input.

    condition: [B, 1 or H, D], the activation applied; or of the tokens in the prefix, bool [B, H],
        and of those after it, [B, 2, D]. attend: Cross-attention, or the identity.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.self_attention = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width)
        )
        self.modulation = nn.Linear(width, 6 * width)

    def forward(
        self, x: Tensor, condition: Tensor, prefix: Tensor | None, attend: Attend
    ) -> Tensor:
        modulation = of_tokens(self.modulation(condition), prefix)  # [B, 1 or H, 6 D]
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=2)
        x = x + gate1 * self.self_attention(modulate(self.norm1(x), shift1, scale1))  # [B, H, D]
        x = attend(x)  # [B, H, D]
        out: Tensor = x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))  # [B, H, D]
        return out


class SelfAttention(nn.Module):
    """Every token attends to every token: [B, H, D] -> [B, H, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.query_key_value(x).chunk(3, dim=2)
        query, key, value = (split_heads(part, self.heads) for part in parts)  # [B, heads, H, d]
        attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(merge_heads(attended))
        return out


class FinalLayer(nn.Module):
    """Norm, shift, scale, and a product: [B, H, D] -> [B, H, A]."""

    def __init__(self, width: int, action_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.linear = nn.Linear(width, action_dim)

    def forward(self, x: Tensor, condition: Tensor, prefix: Tensor | None) -> Tensor:
        shift, scale = of_tokens(self.modulation(condition), prefix).chunk(2, dim=2)
        out: Tensor = self.linear(modulate(self.norm(x), shift, scale))
        return out


class TimeEmbedding(nn.Module):
    """Sines and cosines of the time, then a network of two layers: [...] -> [..., D]; with several
    inputs the sum of such, [..., inputs] -> [..., D]."""

    def __init__(self, n_sinusoids: int, width: int, inputs: int = 1) -> None:
        super().__init__()
        self.n_sinusoids = n_sinusoids
        self.mlp = nn.Sequential(nn.Linear(n_sinusoids, width), nn.SiLU(), nn.Linear(width, width))
        self.others = other_embeddings(lambda: TimeEmbedding(n_sinusoids, width), inputs)

    def forward(self, time: Tensor) -> Tensor:
        if len(self.others):
            return summed_embeddings([self._embedded, *self.others], time)
        return self._embedded(time)

    def _embedded(self, time: Tensor) -> Tensor:
        dtype = next(self.mlp.parameters()).dtype
        precise = time.to(torch.promote_types(dtype, torch.float32))  # bf16 rounds 257 to 256
        embedded: Tensor = self.mlp(sinusoids(precise, self.n_sinusoids).to(dtype))
        return embedded


def of_tokens(x: Tensor, prefix: Tensor | None) -> Tensor:
    """[B, 2, D] -> [B, H, D]: the first where bool [B, H], else the second. x without a prefix."""
    return x if prefix is None else torch.where(prefix[..., None], x[:, :1], x[:, 1:])


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def sinusoids(values: Tensor, dim: int) -> Tensor:
    """Cosines, then sines, of wavelengths from 2 pi to almost 2 pi 10,000: [...] -> [..., dim]
    (Vaswani et al., 2017, section 3.5)."""
    half = dim // 2
    values = values if values.is_floating_point() else values.float()
    exponents = torch.arange(half, device=values.device, dtype=values.dtype) / half
    angles = values[..., None] * torch.exp(-math.log(10_000) * exponents)  # [..., dim / 2]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _vector_embedding(vector_dim: int, width: int) -> nn.Sequential | None:
    """[B, G] -> [B, D]: the place of the paper's table of classes. None without a vector."""
    if not vector_dim:
        return None
    return nn.Sequential(nn.Linear(vector_dim, width), nn.SiLU(), nn.Linear(width, width))


def _projection(dim: int | None, width: int) -> nn.Linear | None:
    return None if dim is None else nn.Linear(dim, width)


def _blocks(modules: nn.ModuleList) -> list[Block]:
    return [block for block in modules if isinstance(block, Block)]


def _check_sizes(
    width: int, depth: int, heads: int, mlp_ratio: float, time_embed_dim: int, positions: str
) -> None:
    if heads < 1 or width < 1 or width % heads or width % 2:
        raise ConfigError(f"width is {width}: it has to be even and divisible by {heads} heads")
    if depth < 1:
        raise ConfigError(f"depth is {depth}: at least one block is needed")
    if not 1 <= width * mlp_ratio < math.inf:
        raise ConfigError(
            f"mlp_ratio is {mlp_ratio}: a hidden layer of at least one number is needed"
        )
    if time_embed_dim < 2 or time_embed_dim % 2:
        raise ConfigError(f"time_embed_dim is {time_embed_dim}: it has to be even and positive")
    if positions not in POSITIONS:
        raise ConfigError(f"unknown positions {positions!r}; known: {', '.join(POSITIONS)}")
