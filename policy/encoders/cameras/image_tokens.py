"""Pictures as tokens: what is where, for networks with cross-attention."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.encoders.cameras.missing import Presence


class ImageTokens(nn.Module):
    """Features {camera: [B * To, C, h, w]} -> tokens [B, K, dim], K = To * sum of h w over cameras.

    A cell's token is a projection of its features, plus a fixed embedding of its place in the
    picture and learned ones of its camera and its frame.
    """

    def __init__(self, channels: int, dim: int, cameras: list[str], n_obs_steps: int) -> None:
        super().__init__()
        if dim < 4 or dim % 4:
            raise ConfigError(f"token_dim is {dim}: it must be a multiple of 4")
        self.cameras, self.n_obs_steps, self.dim = cameras, n_obs_steps, dim
        self.project = nn.Linear(channels, dim)
        self.camera_embedding = nn.Parameter(0.02 * torch.randn(len(cameras), dim))
        self.frame_embedding = nn.Parameter(0.02 * torch.randn(n_obs_steps, dim))

    def forward(
        self, features: Mapping[str, Tensor], presence: Presence, rows: int
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens of the cameras that are present, and their mask [B, K]; None where all count.

        presence: Which of the `rows` rows have which camera.
        """
        tokens = {name: self._of_camera(name, found) for name, found in features.items()}
        if not tokens:  # no camera at all: one token that does not count
            nothing = self.camera_embedding.new_zeros(rows, 1, self.dim)
            return nothing, torch.zeros(rows, 1, dtype=torch.bool, device=nothing.device)
        together = torch.cat(list(tokens.values()), dim=1)
        if all(presence[name] is None for name in tokens):
            return together, None
        masks = [_mask(presence[name], part) for name, part in tokens.items()]
        return together, torch.cat(masks, dim=1)

    def _of_camera(self, camera: str, features: Tensor) -> Tensor:
        """[B * To, C, h, w] -> [B, To * h w, dim]"""
        cells = self.project(features.flatten(2).transpose(1, 2))  # [B * To, h w, dim]
        height, width = features.shape[2:]
        cells = cells + sincos_2d(height, width, self.dim, cells.device).to(cells)
        by_frame = cells.view(-1, self.n_obs_steps, *cells.shape[1:])  # [B, To, h w, dim]
        learned = self.frame_embedding[:, None] + self.camera_embedding[self.cameras.index(camera)]
        tokens: Tensor = (by_frame + learned).flatten(1, 2)
        return tokens


def _mask(present: Tensor | None, tokens: Tensor) -> Tensor:
    everywhere = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return everywhere if present is None else everywhere & present[:, None]


def sincos_2d(height: int, width: int, dim: int, device: torch.device | str = "cpu") -> Tensor:
    """Sines and cosines of each cell's row and column: [height * width, dim], computed there."""
    index = torch.arange(dim // 4, device=device)
    frequencies = torch.exp(index * (-math.log(100.0) / max(dim // 4 - 1, 1)))

    def waves(size: int) -> Tensor:
        angles = torch.arange(size, device=device)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # [size, dim / 2]

    rows, columns = waves(height)[:, None], waves(width)[None]
    pair = [rows.expand(-1, width, -1), columns.expand(height, -1, -1)]
    return torch.cat(pair, dim=2).flatten(0, 1)
