"""The published U-Net, with its own names of parameters: what ours is held to.

Everything is torch's own layers, one after another, as the authors write it.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class SinusoidalEmbedding(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, time: Tensor) -> Tensor:
        half = self.dim // 2
        index = torch.arange(half, device=time.device)
        frequencies = torch.exp(index * -(math.log(10000) / (half - 1)))
        angle = time[:, None] * frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class Conv1dBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, n_groups: int):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(channels_in, channels_out, kernel_size, padding=kernel_size // 2),
            nn.GroupNorm(n_groups, channels_out),
            nn.Mish(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class ConditionalResidualBlock1D(nn.Module):
    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        condition_dim: int,
        kernel_size: int,
        n_groups: int,
    ):
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                Conv1dBlock(channels_in, channels_out, kernel_size, n_groups),
                Conv1dBlock(channels_out, channels_out, kernel_size, n_groups),
            ]
        )
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(condition_dim, 2 * channels_out))
        same = channels_in == channels_out
        self.residual_conv = nn.Identity() if same else nn.Conv1d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, bias = self.cond_encoder(condition).unsqueeze(-1).chunk(2, dim=1)
        return self.blocks[1](scale * self.blocks[0](x) + bias) + self.residual_conv(x)


class Resample(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class PlainUnet1D(nn.Module):
    """chunk [B, H, A], time [B], vector [B, G] -> [B, H, A]."""

    def __init__(
        self,
        action_dim: int,
        context_dim: int,
        down_dims: Sequence[int] = (256, 512, 1024),
        kernel_size: int = 5,
        n_groups: int = 8,
        time_embed_dim: int = 256,
    ) -> None:
        super().__init__()
        dim = time_embed_dim

        def block(channels_in: int, channels_out: int) -> ConditionalResidualBlock1D:
            return ConditionalResidualBlock1D(
                channels_in, channels_out, dim + context_dim, kernel_size, n_groups
            )

        pairs = list(pairwise([action_dim, *down_dims]))
        self.diffusion_step_encoder = nn.Sequential(
            SinusoidalEmbedding(dim), nn.Linear(dim, 4 * dim), nn.Mish(), nn.Linear(4 * dim, dim)
        )
        self.down_modules = nn.ModuleList(
            nn.ModuleList(
                [
                    block(c_in, c_out),
                    block(c_out, c_out),
                    Resample(nn.Conv1d(c_out, c_out, 3, 2, 1))
                    if i < len(pairs) - 1
                    else nn.Identity(),
                ]
            )
            for i, (c_in, c_out) in enumerate(pairs)
        )
        top = down_dims[-1]
        self.mid_modules = nn.ModuleList([block(top, top), block(top, top)])
        self.up_modules = nn.ModuleList(
            nn.ModuleList(
                [
                    block(2 * c_out, c_in),
                    block(c_in, c_in),
                    Resample(nn.ConvTranspose1d(c_in, c_in, 4, 2, 1)),
                ]
            )
            for c_in, c_out in reversed(pairs[1:])
        )
        self.final_conv = nn.Sequential(
            Conv1dBlock(down_dims[0], down_dims[0], 5, n_groups),
            nn.Conv1d(down_dims[0], action_dim, 1),
        )

    def forward(self, chunk: Tensor, time: Tensor, vector: Tensor) -> Tensor:
        condition = torch.cat([self.diffusion_step_encoder(time), vector], dim=1)
        x, skips = chunk.transpose(1, 2), []
        for first, second, resample in self.down_modules:
            x = second(first(x, condition), condition)
            skips.append(x)
            x = resample(x)
        for block in self.mid_modules:
            x = block(x, condition)
        for first, second, resample in self.up_modules:
            x = torch.cat([x, skips.pop()], dim=1)
            x = resample(second(first(x, condition), condition))
        return self.final_conv(x).transpose(1, 2)
