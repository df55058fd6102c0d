"""The embedding of the time that a denoiser is told, and of what else it is told beside it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError


class TimestepEmbedding(nn.Module):
    """Sinusoids of the time, then a two-layer network: [...] -> [..., dim].

    dim: Even, at least 4.
    inputs: Numbers that are embedded and added up; with several, [..., inputs] -> [..., dim].
    """

    def __init__(self, dim: int, inputs: int = 1) -> None:
        super().__init__()
        if dim % 2 or dim < 4:
            raise ConfigError(f"time_embed_dim is {dim}: it must be even and at least 4")
        self.n_frequencies = dim // 2
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.Mish(), nn.Linear(4 * dim, dim))
        self.others = other_embeddings(lambda: TimestepEmbedding(dim), inputs)

    def forward(self, time: Tensor) -> Tensor:
        if len(self.others):
            return summed_embeddings([self._embedded, *self.others], time)
        return self._embedded(time)

    def _embedded(self, time: Tensor) -> Tensor:
        dtype = next((p.dtype for p in self.mlp.parameters()), torch.float32)
        precise = torch.promote_types(dtype, torch.float32)  # bf16 does not know 257 from 256
        index = torch.arange(self.n_frequencies, device=time.device, dtype=precise)
        frequencies = torch.exp(index * -(math.log(10000) / (self.n_frequencies - 1)))
        angle = time[..., None] * frequencies  # [..., dim / 2]
        embedding: Tensor = self.mlp(torch.cat([angle.sin(), angle.cos()], dim=-1).to(dtype))
        return embedding


def other_embeddings(make: Callable[[], nn.Module], inputs: int) -> nn.ModuleList:
    """Of all inputs but the first; 0 until they are trained, so that a network that is told more
    than the one whose weights it begins with says the same."""
    made = nn.ModuleList(make() for _ in range(inputs - 1))
    zero_embeddings(made)
    return made


def zero_embeddings(embeddings: nn.ModuleList) -> None:
    """Set what they add to 0."""
    for embedding in embeddings:
        last: Any = embedding.mlp[-1]  # type: ignore[index]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


def summed_embeddings(each: Sequence[Callable[[Tensor], Tensor]], values: Tensor) -> Tensor:
    """The sum of what each embedding makes of its number: [..., inputs] -> [..., dim]."""
    total = each[0](values[..., 0])
    for number, embedding in enumerate(each[1:], start=1):
        total = total + embedding(values[..., number])
    return total
