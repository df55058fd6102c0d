"""Layers of the 1D U-Net, as published, of ordinary torch modules: [B, C, T] throughout."""

import torch.nn.functional as F
from torch import Tensor, nn


class GroupNormMish(nn.GroupNorm):
    """GroupNorm, over all frames and a group's channels, then Mish."""

    def forward(self, x: Tensor) -> Tensor:
        return F.mish(super().forward(x))


class ConvNormAct(nn.Sequential):
    """Convolution over time, GroupNorm, Mish: [B, C, T] -> [B, C', T]."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel_size: int, n_groups: int
    ) -> None:
        super().__init__(
            nn.Conv1d(channels_in, channels_out, kernel_size, padding=kernel_size // 2),
            GroupNormMish(n_groups, channels_out),
        )


class Downsample(nn.Conv1d):
    """[B, C, T] -> [B, C, T / 2]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=3, stride=2, padding=1)


class Upsample(nn.ConvTranspose1d):
    """[B, C, T] -> [B, C, 2 T]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=4, stride=2, padding=1)


class ResidualBlock(nn.Module):
    """Two convolutions with FiLM between them and a shortcut around them.

    film: The condition, Mish applied, -> [2 C'], scale first, offset second, applied after the
        first convolution's activation as scale * h + offset (FiLM: Perez et al., 2018).
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
        self.first = ConvNormAct(channels_in, channels_out, kernel_size, n_groups)
        self.second = ConvNormAct(channels_out, channels_out, kernel_size, n_groups)
        self.film = nn.Linear(condition_dim, 2 * channels_out)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv1d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """x: [B, C, T]; film: scale and offset, [B, 2 C'], or [B, H, 2 C'], of each frame of the
        chunk. Returns [B, C', T]."""
        film = at_resolution(film, x.shape[2])
        film = film[:, :, None] if film.dim() == 2 else film.transpose(1, 2)
        scale, offset = film.chunk(2, dim=1)  # each [B, C', 1] or [B, C', T]
        out: Tensor = self.second(scale * self.first(x) + offset) + self.shortcut(x)
        return out


class Stage(nn.Module):
    """Two residual blocks and a change of resolution."""

    def __init__(self, first: ResidualBlock, second: ResidualBlock, resample: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.resample = first, second, resample


def at_resolution(film: Tensor, frames: int) -> Tensor:
    """FiLM of the chunk's frames, [B, H, 2 C], at a resolution of T frames: the mean over the
    H / T that each covers, [B, T, 2 C]. FiLM of a row, [B, 2 C], stays."""
    if film.dim() == 2 or film.shape[1] == frames:
        return film
    by_frame = film.view(film.shape[0], frames, -1, film.shape[2])
    return by_frame.mean(2)


def stages(modules: nn.ModuleList) -> list[Stage]:
    """The stages in a list of nothing else."""
    return [module for module in modules if isinstance(module, Stage)]
