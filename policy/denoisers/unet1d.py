"""The conditional 1D temporal U-Net of Diffusion Policy (Chi et al., 2023, arXiv 2303.04137).

Its layers, to the last parameter, are the published ones, quirks included: FiLM multiplies by the
scale itself (not by 1 + scale), the upward path has one stage fewer than the downward path, and the
first stage's skip, at full resolution, is never used.

    chunk ─> down 0 ─> down 1 ─> down 2 ─> middle ─> up 2 ─> up 1 ─> final ─> prediction
    frames     H        H/2       H/4       H/4      H/2       H
                          │         └───────────────> skip       │
                          └────────────────────────────> skip    │

Inside, everything is [B, C, T]. On a CPU the same is computed in another order, see
`cpu_unet/fast_path.py`; the modules here are the reference.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise, repeat
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import DENOISERS
from dipole.policy.denoisers.attention import (
    Attend,
    KeysValues,
    attention_layers,
    attention_units,
    bind_attention,
    project_keys_values,
)
from dipole.policy.denoisers.base import Denoiser
from dipole.policy.denoisers.cpu_unet.fast_path import CpuFastPath
from dipole.policy.denoisers.cpu_unet.time_major import TimeMajorUnet
from dipole.policy.denoisers.cpu_unet.weights import arrange_drawn_weights, arrange_weights
from dipole.policy.denoisers.timestep_embedding import TimestepEmbedding
from dipole.policy.denoisers.unet_layers import (
    ConvNormAct,
    Downsample,
    ResidualBlock,
    Stage,
    Upsample,
    stages,
)

Films = tuple[Tensor, ...]  # of each residual block, in the order in which they run
PreparedContext = tuple[Films, tuple[KeysValues, ...], tuple[Tensor, ...]]


class ConditionalUnet1D(Denoiser):
    """(chunk [B, H, A], time, Context) -> prediction [B, H, A], in the weights' precision.

    H must be a multiple of 2^(stages - 1). A time for each frame, [B, H], modulates each frame by
    its own; at lower resolutions by the mean over the frames that a frame covers.

    residuals, of a ControlNet branch (`UnetBranch`): for the skip of stage 1, 2, ... each
        [B, down_dims[i], H / 2^i], then for the middle's output [B, down_dims[-1], H / 2^(stages
        - 1)]; or none.

    action_dim: A.
    context_dim: G, the size of the context's vector; 0 for none.
    down_dims: Channels of each stage.
    kernel_size: Odd, of the convolutions in residual blocks.
    n_groups: Of GroupNorm; a divisor of each of down_dims.
    time_embed_dim: Size of the time's embedding.
    token_dim: E, the size of the context's tokens, to which the chunk attends after each stage and
        in the middle; None for no tokens.
    attention_heads: Of these layers; a divisor of each of down_dims.
    frame_dim: F, the size of the context's frames, which are concatenated with the chunk's; None
        for no frames.
    time_inputs: Numbers of a time, see `Denoiser`.
    """

    rows_are_independent = True
    # What computes instead where it serves; None: always the modules. See `use_fast_path`.
    fast_path: TimeMajorUnet | None = CpuFastPath()

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
        frame_dim: int | None = None,
        time_inputs: int = 1,
    ) -> None:
        super().__init__()
        self.time_inputs = time_inputs
        _check_dims(down_dims, kernel_size, n_groups)
        self.action_dim, self.context_dim = action_dim, context_dim
        self.down_dims, self.frame_dim = tuple(down_dims), frame_dim or 0
        condition_dim = time_embed_dim + context_dim

        def block(channels_in: int, channels_out: int) -> ResidualBlock:
            return ResidualBlock(channels_in, channels_out, condition_dim, kernel_size, n_groups)

        pairs = list(pairwise([action_dim + self.frame_dim, *down_dims]))
        top = down_dims[-1]
        self.time_embedding = TimestepEmbedding(time_embed_dim, time_inputs)
        self.activation = nn.Mish()
        self.down = nn.ModuleList(
            Stage(
                block(c_in, c_out),
                block(c_out, c_out),
                Downsample(c_out) if i < len(pairs) - 1 else nn.Identity(),
            )
            for i, (c_in, c_out) in enumerate(pairs)
        )
        self.middle = nn.ModuleList([block(top, top), block(top, top)])
        self.up = nn.ModuleList(
            Stage(block(2 * c_out, c_in), block(c_in, c_in), Upsample(c_in))
            for c_in, c_out in reversed(pairs[1:])
        )
        self.final = nn.Sequential(
            ConvNormAct(down_dims[0], down_dims[0], 5, n_groups),
            nn.Conv1d(down_dims[0], action_dim, 1),
        )
        attending = [*down_dims, top, *(c_in for c_in, _ in reversed(pairs[1:]))]
        self.attention = attention_layers(attending, token_dim, attention_heads)
        arrange_drawn_weights(self)
        self.register_load_state_dict_post_hook(_arrange_loaded)  # type: ignore[no-untyped-call]

    def forward(
        self,
        x: Tensor,
        time: Tensor | int,
        context: Context | Tensor,
        residuals: Sequence[Tensor] = (),
    ) -> Tensor:
        """The prediction. time: [B] or [B, H]; context: a tensor is a context of a vector alone."""
        context = _as_context(context)
        films = self._films(torch.as_tensor(time, device=x.device), context, x.shape[0])
        keys_values, frames = self._keys_values(context), self._frames(context)
        return self._run(x, films, keys_values, frames, residuals)

    def prepare_time(self, times: Tensor) -> Films:
        """The half of each block's FiLM that depends on the time alone: [M], or [M, inputs], ->
        each [M, 2 C]."""
        condition = self.activation(self.time_embedding(times))  # [M, time_embed_dim]
        return tuple(
            F.linear(condition, block.film.weight[:, : condition.shape[1]], block.film.bias)
            for block in self._blocks()
        )

    def prepare_context(self, context: Context | Tensor) -> PreparedContext:
        """The other half of each block's FiLM, each [B, 2 C], none without a vector; the keys and
        values of each attention layer; the context's frames, one tensor or none."""
        context = _as_context(context)
        films: Films = ()
        if self.context_dim:
            condition = self.activation(self._vector(context))  # [B, G]
            films = tuple(
                F.linear(condition, block.film.weight[:, -self.context_dim :])
                for block in self._blocks()
            )
        return films, self._keys_values(context), self._frames(context)

    def predict(
        self, x: Tensor, time: Films, context: PreparedContext, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        """`forward` with what was prepared.

        Mish acts on each entry of the condition and FiLM is linear in them, so that it is the sum
        of a half from the time and a half from the context.
        """
        of_context, keys_values, frames = context
        return self._run(x, _summed(time, of_context), keys_values, frames, residuals)

    def encoder_features(
        self,
        x: Tensor,
        time: Tensor | int,
        context: Context | Tensor,
    ) -> tuple[Tensor, ...]:
        """What `residuals` are added to: the skip of each stage but the first, then the middle."""
        context = _as_context(context)
        films = self._films(torch.as_tensor(time, device=x.device), context, x.shape[0])
        attend = chain(bind_attention(self.attention, self._keys_values(context)), repeat(_same))
        x = self._joined(x, self._frames(context)).transpose(1, 2)
        middle, skips = self._encode(x, iter(films), attend)
        return (*skips[1:], middle)

    def sharding_units(self) -> Sequence[nn.Module]:
        """Convolutions; FiLM's layers are read in `prepare_time`."""
        kinds = (ConvNormAct, Downsample, Upsample)
        convolutions = [module for module in self.modules() if isinstance(module, kinds)]
        return [*convolutions, *attention_units(self.attention)]

    def check_horizon(self, horizon: int) -> None:
        """Refuse a horizon that cannot be halved once per resolution."""
        multiple = 2 ** (len(self.down_dims) - 1)
        if horizon % multiple or horizon <= 0:
            raise ConfigError(
                f"the horizon is {horizon}, but a U-Net of {len(self.down_dims)} stages has "
                f"{len(self.down_dims) - 1} halvings: choose a multiple of {multiple}"
            )

    def _films(self, time: Tensor, context: Context, rows: int) -> Films:
        """Each block's FiLM: [B, 2 C], or [B, H, 2 C] where time is that of tokens."""
        lead = self.time_lead(time)
        if len(lead) == 2:
            return _summed(self.prepared_lead(time), self.prepare_context(context)[0])
        embedded = self.time_embedding(time.expand(rows, *time.shape[len(lead) :]))
        parts = [embedded, self._vector(context)] if self.context_dim else [embedded]
        condition = self.activation(torch.cat(parts, dim=1))  # [B, D]
        return tuple(block.film(condition) for block in self._blocks())

    def _run(
        self,
        x: Tensor,
        films: Films,
        keys_values: tuple[KeysValues, ...],
        frames: tuple[Tensor, ...],
        residuals: Sequence[Tensor],
    ) -> Tensor:
        self.check_horizon(x.shape[1])
        self._check_residuals(residuals)
        x = self._joined(x, frames)
        attend = bind_attention(self.attention, keys_values)
        if self.fast_path is not None and self.fast_path.serves(self, x):
            return self.fast_path.predict(self, x, films, attend, residuals)
        return self._predict(x, films, attend, residuals)

    def _predict(
        self,
        x: Tensor,
        films: Iterable[Tensor],
        attend: Iterable[Attend],
        residuals: Sequence[Tensor],
    ) -> Tensor:
        """x: [B, H, A + F]. Returns [B, H, A]."""
        films, attend = iter(films), chain(attend, repeat(_same))
        x, skips = self._encode(x.transpose(1, 2), films, attend)
        if residuals:
            skips[1:] = [skip + each for skip, each in zip(skips[1:], residuals, strict=False)]
            x = x + residuals[-1]
        for stage in stages(self.up):
            x = torch.cat([x, skips.pop()], dim=1)
            x = stage.resample(stage.second(stage.first(x, next(films)), next(films)))
            x = _attended(x, next(attend))
        prediction: Tensor = self.final(x).transpose(1, 2)  # [B, H, A]
        return prediction

    def _encode(
        self, x: Tensor, films: Iterator[Tensor], attend: Iterator[Attend]
    ) -> tuple[Tensor, list[Tensor]]:
        """x: [B, A + F, H]. Returns the middle's output, and each stage's before resampling."""
        skips = []
        for stage in stages(self.down):
            x = stage.second(stage.first(x, next(films)), next(films))
            skips.append(x)
            x = _attended(stage.resample(x), next(attend))
        for block in self.middle:
            x = block(x, next(films))  # [B, top, H / 2^(stages - 1)]
        return _attended(x, next(attend)), skips

    def _joined(self, x: Tensor, frames: tuple[Tensor, ...]) -> Tensor:
        """The chunk and the context's frames, side by side: [B, H, A + F]."""
        x = self._cast(x)
        return torch.cat([x, *frames], dim=2) if frames else x

    def _vector(self, context: Context) -> Tensor:
        if context.vector is None:
            raise ConfigError(
                f"the denoiser is built for a context vector of {self.context_dim} numbers, but "
                "the context has none"
            )
        return self._cast(context.vector)

    def _frames(self, context: Context) -> tuple[Tensor, ...]:
        if not self.frame_dim:
            return ()
        if context.frames is None:
            raise ConfigError(
                f"the denoiser is built for context frames of {self.frame_dim} numbers, but the "
                "context has none"
            )
        return (self._cast(context.frames),)

    def _keys_values(self, context: Context) -> tuple[KeysValues, ...]:
        if not len(self.attention):
            return ()
        tokens = None if context.tokens is None else self._cast(context.tokens)
        return project_keys_values(
            self.attention, Context(tokens=tokens, token_mask=context.token_mask)
        )

    def _cast(self, x: Tensor) -> Tensor:
        """In the precision of the weights; under autocast that is autocast's affair."""
        dtype = next(self._blocks()).film.weight.dtype
        if x.dtype == dtype or torch.is_autocast_enabled(x.device.type):
            return x
        return x.to(dtype)

    def _check_residuals(self, residuals: Sequence[Tensor]) -> None:
        if residuals and len(residuals) != len(self.down_dims):
            raise ValueError(
                f"{len(residuals)} residuals for a U-Net of {len(self.down_dims)} stages: it takes "
                "one for the skip of each stage but the first, and one for the middle"
            )

    def _blocks(self) -> Iterator[ResidualBlock]:
        """In the order in which they run; `modules()` took 0.4 ms of a chunk."""
        middle = cast(Iterable[ResidualBlock], self.middle)
        return chain(_pairs(self.down), middle, _pairs(self.up))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ConditionalUnet1D":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        arrange_weights(self)
        return self


def _pairs(parts: nn.ModuleList) -> Iterator[ResidualBlock]:
    return chain.from_iterable((stage.first, stage.second) for stage in stages(parts))


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
    time_inputs: int = 1,
) -> ConditionalUnet1D:
    """A `ConditionalUnet1D` for chunks [B, horizon, action_dim] and contexts of these sizes.

    Raises ConfigError for a horizon that it cannot halve.
    """
    unet = ConditionalUnet1D(
        action_dim,
        context.vector_dim,
        down_dims,
        kernel_size,
        n_groups,
        time_embed_dim,
        context.token_dim,
        attention_heads,
        context.frame_dim,
        time_inputs,
    )
    unet.check_horizon(horizon)
    return unet


def _summed(of_time: Films, of_context: Films) -> Films:
    """Two halves of FiLM, [B, 2 C] or [B, H, 2 C] and [B, 2 C]; the other may be missing."""
    if not of_context:
        return of_time
    return tuple(
        time + (context if time.dim() == 2 else context[:, None])
        for time, context in zip(of_time, of_context, strict=True)
    )


def _arrange_loaded(unet: nn.Module, _incompatible_keys: object) -> None:
    """A function of its own: modules with hooks that are lambdas cannot be pickled."""
    arrange_weights(unet)


def _attended(x: Tensor, attend: Attend) -> Tensor:
    """Attention, which is over [B, T, C], of [B, C, T]."""
    return x if attend is _same else attend(x.transpose(1, 2)).transpose(1, 2)


def _same(x: Tensor) -> Tensor:
    return x


def _as_context(context: Context | Tensor) -> Context:
    return context if isinstance(context, Context) else Context(context)


def _check_dims(down_dims: Sequence[int], kernel_size: int, n_groups: int) -> None:
    if not down_dims:
        raise ConfigError("down_dims is empty: give one width per stage")
    if n_groups < 1:
        raise ConfigError(f"n_groups is {n_groups}: at least one is needed")
    if min(down_dims) < 1:
        raise ConfigError(f"down_dims is {list(down_dims)}: each has to be positive")
    odd = [dim for dim in down_dims if dim % n_groups]
    if odd:
        raise ConfigError(f"down_dims {odd} cannot be divided into n_groups={n_groups} groups")
    if kernel_size < 1:
        raise ConfigError(f"kernel_size is {kernel_size}: at least one frame is needed")
    if kernel_size % 2 == 0:
        raise ConfigError(f"kernel_size is {kernel_size}: an even kernel would shift the chunk")
