"""The conditional 1D temporal U-Net of Diffusion Policy (Chi et al., 2023, arXiv 2303.04137).

Its layout, to the last parameter, is the published one, quirks included: FiLM multiplies by the
scale itself (not by 1 + scale), the upward path has one stage fewer than the downward path, and the
first stage's skip, at full resolution, is never used.

    chunk ─> down 0 ─> down 1 ─> down 2 ─> middle ─> up 2 ─> up 1 ─> final ─> prediction
    frames     H        H/2       H/4       H/4      H/2       H
                          │         └───────────────> skip       │
                          └────────────────────────────> skip    │

Inside, everything is [T, B, C]: see temporal.py.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, pairwise, repeat

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import DENOISERS
from dipole.policy.denoisers.attention import (
    Attend,
    attention_layers,
    bind_attention,
    identity,
    project_keys_values,
)
from dipole.policy.denoisers.base import Denoiser, Prepared
from dipole.policy.denoisers.cpu_unet.temporal import (
    Double,
    Film,
    Halve,
    TemporalConv,
    TemporalNorm,
    modulated,
)


class StepEmbedding(nn.Module):
    """Sinusoidal embedding of the denoising step, then a two-layer network: [B] -> [B, dim]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 2 or dim < 4:
            raise ConfigError(f"time_embed_dim is {dim}: it must be even and at least 4")
        self.n_frequencies = dim // 2
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.Mish(), nn.Linear(4 * dim, dim))

    def forward(self, time: Tensor) -> Tensor:
        dtype = next((p.dtype for p in self.mlp.parameters()), torch.float32)
        precise = torch.promote_types(dtype, torch.float32)  # bf16 does not know 257 from 256
        index = torch.arange(self.n_frequencies, device=time.device, dtype=precise)
        frequencies = torch.exp(index * -(math.log(10000) / (self.n_frequencies - 1)))
        angle = time[:, None] * frequencies  # [B, dim/2]
        embedding: Tensor = self.mlp(torch.cat([angle.sin(), angle.cos()], dim=1).to(dtype))
        return embedding


class ConvBlock(nn.Sequential):
    """Convolution over time, GroupNorm, Mish: [T, B, C] -> [T, B, C']."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, n_groups: int):
        super().__init__(
            TemporalConv(channels_in, channels_out, kernel_size),
            TemporalNorm(n_groups, channels_out),
        )

    def forward(self, x: Tensor, film: Film | None = None) -> Tensor:
        """Training leaves the bias and FiLM to the norm, which passes over all numbers anyway."""
        conv, norm = self
        if torch.is_grad_enabled() and isinstance(conv, TemporalConv):
            out: Tensor = norm(conv.without_bias(x), conv.bias, film)
            return out
        return modulated(norm(conv(x)), film)


class ResidualBlock(nn.Module):
    """Two conv blocks with FiLM between them and a shortcut around them.

    film: the condition, Mish applied -> [B, 2C], scale first, bias second (FiLM: Perez et al.,
    2018), applied after the first block's activation as scale * h + bias.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        condition_dim: int,
        kernel_size: int,
        n_groups: int,
    ) -> None:
        super().__init__()
        self.first = ConvBlock(channels_in, channels_out, kernel_size, n_groups)
        self.second = ConvBlock(channels_out, channels_out, kernel_size, n_groups)
        self.film = nn.Linear(condition_dim, 2 * channels_out)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else TemporalConv(channels_in, channels_out, 1)

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """x: [T, B, C]; film: [B, 2C'], what `film` says. Returns [T, B, C']."""
        scale, offset = film.chunk(2, dim=1)  # each [B, C']
        out: Tensor = self.second(self.first(x, (scale, offset))) + self.shortcut(x)
        return out


class Stage(nn.Module):
    """Two residual blocks and a change of resolution."""

    def __init__(self, first: ResidualBlock, second: ResidualBlock, resample: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.resample = first, second, resample

    def forward(self, x: Tensor, films: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the output, and what it was before the resampling (the skip)."""
        skip = self.second(self.first(x, next(films)), next(films))
        return self.resample(skip), skip


class ConditionalUnet1D(Denoiser):
    """(chunk [B, H, A], time [B], Context) -> prediction [B, H, A], in the weights' precision,
    whatever that of the others is.

    context_dim: size G of the context's vector. token_dim: size E of its tokens, where it has some:
    after each stage and in the middle the chunk attends to them (attention.py), with
    attention_heads. H must be a multiple of 2^(stages - 1).
    """

    rows_are_independent = True  # training may divide a batch among threads

    def __init__(
        self,
        action_dim: int,
        context_dim: int,
        down_dims: Sequence[int] = (256, 512, 1024),
        kernel_size: int = 5,
        n_groups: int = 8,
        time_embed_dim: int = 256,
        token_dim: int | None = None,
        attention_heads: int = 4,
    ) -> None:
        super().__init__()
        _check_dims(down_dims, kernel_size, n_groups)
        self.down_dims = tuple(down_dims)
        condition_dim = time_embed_dim + context_dim

        def block(channels_in: int, channels_out: int) -> ResidualBlock:
            return ResidualBlock(channels_in, channels_out, condition_dim, kernel_size, n_groups)

        widths = [action_dim, *down_dims]
        pairs = list(pairwise(widths))
        top = down_dims[-1]
        self.time_embedding = StepEmbedding(time_embed_dim)
        self.activation = nn.Mish()
        self.down = nn.ModuleList(
            Stage(
                block(c_in, c_out),
                block(c_out, c_out),
                Halve(c_out) if i < len(pairs) - 1 else nn.Identity(),
            )
            for i, (c_in, c_out) in enumerate(pairs)
        )
        self.middle = nn.ModuleList([block(top, top), block(top, top)])
        self.up = nn.ModuleList(
            Stage(
                block(2 * c_out, c_in),
                block(c_in, c_in),
                Double(c_in),
            )
            for c_in, c_out in reversed(pairs[1:])
        )
        self.final = nn.Sequential(
            ConvBlock(down_dims[0], down_dims[0], 5, n_groups),
            TemporalConv(down_dims[0], action_dim, 1),
        )

        attending = [*down_dims, top, *(c_in for c_in, _ in reversed(pairs[1:]))]
        self.attention = attention_layers(attending, token_dim, attention_heads)

    def check_horizon(self, horizon: int) -> None:
        """Refuse a horizon that cannot be halved once per resolution."""
        multiple = 2 ** (len(self.down_dims) - 1)
        if horizon % multiple or horizon <= 0:
            raise ConfigError(
                f"the horizon is {horizon}, but a U-Net of {len(self.down_dims)} stages halves it "
                f"{len(self.down_dims) - 1} times: choose a multiple of {multiple}"
            )

    def forward(
        self,
        chunk: Tensor,
        time: Tensor,
        context: Context | Tensor,
        residuals: Sequence[Tensor] = (),
    ) -> Tensor:
        self.check_horizon(chunk.shape[1])
        context = self._in_own_precision(context)
        time = torch.as_tensor(time, device=chunk.device).expand(chunk.shape[0])
        condition = torch.cat([self.time_embedding(time), _vector(context)], dim=1)  # [B, D]
        condition = self.activation(condition)
        films = [block.film(condition) for block in self._blocks()]
        attended = bind_attention(self.attention, project_keys_values(self.attention, context))
        return self._denoise(chunk, films, attended)

    def prepare_time(self, times: Tensor) -> Prepared:
        """The half of every block's FiLM that depends on time alone: times [S] -> each [S, 2C]."""
        condition = self.activation(self.time_embedding(times))  # [S, time_embed_dim]
        return tuple(
            F.linear(condition, block.film.weight[:, : condition.shape[1]], block.film.bias)
            for block in self._blocks()
        )

    def prepare_context(self, context: Context | Tensor) -> Prepared:
        """What depends on the context alone, computed once per chunk: the other half of every
        block's FiLM, each [B, 2C], and the keys and values of every attention."""
        context = self._in_own_precision(context)
        condition = self.activation(_vector(context))  # [B, G]
        context_dim = condition.shape[1]
        films = tuple(
            F.linear(condition, block.film.weight[:, -context_dim:]) for block in self._blocks()
        )
        return films, project_keys_values(self.attention, context)

    def predict(
        self, x: Tensor, time: Prepared, context: Prepared, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        """x [B, H, A] -> prediction [B, H, A].

        Mish acts on each entry and FiLM is linear, so that it is the sum of a half from the time
        and a half from the context.
        """
        of_context, keys_values = context
        films = [of_one + of_row for of_one, of_row in zip(time, of_context, strict=True)]
        return self._denoise(x, films, bind_attention(self.attention, keys_values))

    def _in_own_precision(self, context: Context | Tensor) -> Context | Tensor:
        """The context in the precision of the weights."""
        if isinstance(context, Tensor):
            return self._cast(context)
        tokens = None if context.tokens is None else self._cast(context.tokens)
        return replace(context, vector=self._cast(_vector(context)), tokens=tokens)

    def _cast(self, x: Tensor) -> Tensor:
        """In the precision of the weights; under autocast that is autocast's affair."""
        dtype = next(self._blocks()).film.weight.dtype
        if x.dtype == dtype or torch.is_autocast_enabled(x.device.type):
            return x
        return x.to(dtype)

    def _blocks(self) -> Iterator[ResidualBlock]:
        """In the order in which they run."""
        return (module for module in self.modules() if isinstance(module, ResidualBlock))

    def _denoise(
        self, chunk: Tensor, films: Iterable[Tensor], attending: Iterable[Attend] = ()
    ) -> Tensor:
        films, attend = iter(films), chain(attending, repeat(identity))
        x = self._cast(chunk).transpose(0, 1)  # [H, B, A]
        skips = []
        for stage in self.down:
            x, skip = stage(x, films)
            x = next(attend)(x.transpose(0, 1)).transpose(0, 1)
            skips.append(skip)
        for block in self.middle:
            x = block(x, next(films))  # [H / 2^(stages-1), B, top]
        x = next(attend)(x.transpose(0, 1)).transpose(0, 1)
        for stage in self.up:
            x, _ = stage(torch.cat([x, skips.pop()], dim=2), films)
            x = next(attend)(x.transpose(0, 1)).transpose(0, 1)
        prediction: Tensor = self.final(x).transpose(0, 1)  # [B, H, A]
        return prediction


def _vector(context: Context | Tensor) -> Tensor:
    vector = context.vector if isinstance(context, Context) else context
    assert vector is not None
    return vector


@DENOISERS.add("unet1d")
def unet1d(
    action_dim: int,
    horizon: int,
    context: ContextSpec,
    down_dims: Sequence[int] = (256, 512, 1024),
    kernel_size: int = 5,
    n_groups: int = 8,
    time_embed_dim: int = 256,
    attention_heads: int = 4,
) -> ConditionalUnet1D:
    """A U-Net for chunks of this horizon and contexts of these sizes."""
    unet = ConditionalUnet1D(
        action_dim,
        context.vector_dim,
        down_dims,
        kernel_size,
        n_groups,
        time_embed_dim,
        context.token_dim,
        attention_heads,
    )
    unet.check_horizon(horizon)
    return unet


def _check_dims(down_dims: Sequence[int], kernel_size: int, n_groups: int) -> None:
    if not down_dims:
        raise ConfigError("down_dims is empty: give one width per stage")
    odd = [dim for dim in down_dims if dim % n_groups]
    if odd:
        raise ConfigError(f"down_dims {odd} cannot be divided into n_groups={n_groups} groups")
    if kernel_size % 2 == 0:
        raise ConfigError(f"kernel_size is {kernel_size}: an even kernel would shift the chunk")
