"""The U-Net in time-major layout, [T, B, C], over the modules of the reference.

A chunk is short and its channels are many: with frames outermost, a convolution over time is a few
matrix products over contiguous memory, and no axes are turned in between. How the layers are
computed is up to a subclass.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from dipole.policy.denoisers.attention import Attend
from dipole.policy.denoisers.cpu_unet.weights import Convolution
from dipole.policy.denoisers.unet_layers import ConvNormAct, ResidualBlock, at_resolution, stages

if TYPE_CHECKING:
    from dipole.policy.denoisers.unet1d import ConditionalUnet1D

# Scale and offset, each [B, C], or [T, B, C] where each frame has its own.
Film = tuple[Tensor, Tensor]


class TimeMajorUnet:
    """Computes what `ConditionalUnet1D` does, from its modules' weights."""

    def serves(self, unet: "ConditionalUnet1D", x: Tensor) -> bool:
        """Whether to compute with it here and now. x: [B, H, A + F]."""
        raise NotImplementedError

    def convolution(self, layer: Convolution, x: Tensor) -> Tensor:
        """Stride 1: [T, B, C] -> [T, B, C']."""
        raise NotImplementedError

    def downsample(self, layer: Convolution, x: Tensor) -> Tensor:
        """[T, B, C] -> [T / 2, B, C]."""
        raise NotImplementedError

    def upsample(self, layer: Convolution, x: Tensor) -> Tensor:
        """[T, B, C] -> [2 T, B, C]."""
        raise NotImplementedError

    def conv_norm_act(self, layer: ConvNormAct, x: Tensor, film: Film | None = None) -> Tensor:
        """[T, B, C] -> [T, B, C'], and FiLM."""
        raise NotImplementedError

    def predict(
        self,
        unet: "ConditionalUnet1D",
        x: Tensor,
        films: Iterable[Tensor],
        attend: Iterable[Attend],
        residuals: Sequence[Tensor],
    ) -> Tensor:
        """As `ConditionalUnet1D._predict`: [B, H, A + F] -> [B, H, A]."""
        films, attend = iter(films), chain(attend, repeat(_same))
        x = x.transpose(0, 1)  # [H, B, A + F]
        skips = []
        for stage in stages(unet.down):
            x = self._block(stage.second, self._block(stage.first, x, next(films)), next(films))
            skips.append(x)
            if not isinstance(stage.resample, nn.Identity):
                x = self.downsample(cast(Convolution, stage.resample), x)
            x = _attended(x, next(attend))
        for block in cast(Iterable[ResidualBlock], unet.middle):
            x = self._block(block, x, next(films))  # [H / 2^(stages - 1), B, top]
        x = _attended(x, next(attend))
        if residuals:
            by_time = [each.permute(2, 0, 1) for each in residuals]
            skips[1:] = [skip + each for skip, each in zip(skips[1:], by_time, strict=False)]
            x = x + by_time[-1]
        for stage in stages(unet.up):
            x = torch.cat([x, skips.pop()], dim=2)
            x = self._block(stage.second, self._block(stage.first, x, next(films)), next(films))
            x = _attended(self.upsample(cast(Convolution, stage.resample), x), next(attend))
        last, project = unet.final
        x = self.conv_norm_act(cast(ConvNormAct, last), x)
        return self.convolution(cast(Convolution, project), x).transpose(0, 1)  # [B, H, A]

    def _block(self, block: ResidualBlock, x: Tensor, film: Tensor) -> Tensor:
        film = at_resolution(film, x.shape[0])
        film = film if film.dim() == 2 else film.transpose(0, 1)  # [T, B, 2 C]
        scale, offset = film.chunk(2, dim=-1)
        out = self.conv_norm_act(block.first, x, (scale, offset))
        out = self.conv_norm_act(block.second, out)
        if isinstance(block.shortcut, nn.Identity):
            return out + x
        return out + self.convolution(cast(Convolution, block.shortcut), x)


def modulated(x: Tensor, film: Film | None) -> Tensor:
    """x [T, B, C] times the scale, plus the offset."""
    return x if film is None else torch.addcmul(film[1], x, film[0])


def _attended(x: Tensor, attend: Attend) -> Tensor:
    """Attention, which is over [B, T, C], of [T, B, C]."""
    return x if attend is _same else attend(x.transpose(0, 1)).transpose(0, 1)


def _same(x: Tensor) -> Tensor:
    return x
