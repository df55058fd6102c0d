"""The embedding of the time that a denoiser is told."""

import math

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError


class TimestepEmbedding(nn.Module):
    """Sinusoids of the time, then a two-layer network: [...] -> [..., dim].

    dim: Even, at least 4.
    """

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
        angle = time[..., None] * frequencies  # [..., dim / 2]
        embedding: Tensor = self.mlp(torch.cat([angle.sin(), angle.cos()], dim=-1).to(dtype))
        return embedding
