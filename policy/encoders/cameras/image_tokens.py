"""A picture as tokens: what is where, for networks that attend to it."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.encoders.cameras.absence import There


class PictureTokens(nn.Module):
    """Features {camera: [B * To, C, h, w]} -> tokens [B, K, dim], K = To * sum of h w over cameras.

    A cell's token knows its place in the picture (sines), its camera and its frame (learned).
    """

    def __init__(self, channels: int, dim: int, cameras: list[str], n_obs_steps: int) -> None:
        super().__init__()
        if dim < 4 or dim % 4:
            raise ConfigError(f"token_dim is {dim}: it must be a multiple of 4")
        self.cameras, self.n_obs_steps, self.dim = cameras, n_obs_steps, dim
        self.project = nn.Linear(channels, dim)
        self.of_camera = nn.Parameter(0.02 * torch.randn(len(cameras), dim))
        self.of_frame = nn.Parameter(0.02 * torch.randn(n_obs_steps, dim))

    def forward(
        self, features: Mapping[str, Tensor], there: There, rows: int
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens of the cameras that are present, and their mask [B, K]; None where all count.

        there: which of the `rows` samples have which camera.
        """
        tokens = {name: self._of(name, seen) for name, seen in features.items()}
        if not tokens:  # nothing is seen: attention hears nothing
            nothing = self.of_camera.new_zeros(rows, 1, self.dim)
            return nothing, torch.zeros(rows, 1, dtype=torch.bool, device=nothing.device)
        together = torch.cat(list(tokens.values()), dim=1)
        if all(there[name] is None for name in tokens):
            return together, None
        masks = [_mask(there[name], part) for name, part in tokens.items()]
        return together, torch.cat(masks, dim=1)

    def _of(self, camera: str, seen: Tensor) -> Tensor:
        """[B * To, C, h, w] -> [B, To * h w, dim]"""
        cells = self.project(seen.flatten(2).transpose(1, 2))  # [B * To, h w, dim]
        cells = cells + places(seen.shape[2], seen.shape[3], self.dim, cells.device).to(cells)
        by_frame = cells.view(-1, self.n_obs_steps, *cells.shape[1:])  # [B, To, h w, dim]
        known = self.of_frame[:, None] + self.of_camera[self.cameras.index(camera)]
        tokens: Tensor = (by_frame + known).flatten(1, 2)
        return tokens


def _mask(there: Tensor | None, tokens: Tensor) -> Tensor:
    everywhere = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return everywhere if there is None else everywhere & there[:, None]


def places(height: int, width: int, dim: int, device: torch.device | str = "cpu") -> Tensor:
    """Sines and cosines of each cell's row and column: [height * width, dim], computed there."""
    index = torch.arange(dim // 4, device=device)
    frequencies = torch.exp(index * (-math.log(100.0) / max(dim // 4 - 1, 1)))

    def waves(size: int) -> Tensor:
        angles = torch.arange(size, device=device)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # [size, dim / 2]

    rows, columns = waves(height)[:, None], waves(width)[None]
    pair = [rows.expand(-1, width, -1), columns.expand(height, -1, -1)]
    return torch.cat(pair, dim=2).flatten(0, 1)
