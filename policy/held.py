"""Action dimensions that were constant in the demonstrations, kept within their range."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dipole.data import Statistics


class HeldActions(nn.Module):
    """Clamps held dimensions of a chunk [..., *shape], in the robot's units, to [low, high].

    A normaliser only shifts a dimension that is constant (range below 1e-4), so that noise which a
    network leaves in it would reach the robot in full units. Such a dimension is clamped to the
    range that was demonstrated: one that never moved comes out exactly as it was. NaN stays NaN. A
    checkpoint without these buffers leaves them as they are.

    held: bool, of the action's shape. low, high: Of the same shape; 0 where not held.
    """

    held: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("held", torch.zeros(tuple(shape), dtype=torch.bool))
        self.register_buffer("low", torch.zeros(tuple(shape)))
        self.register_buffer("high", torch.zeros(tuple(shape)))

    def fit(self, statistics: Statistics, held: Sequence[int]) -> None:
        """held: which dimensions, as indices of the flattened shape."""
        self.held.zero_().view(-1)[list(held)] = True
        for bound, seen in ((self.low, statistics.min), (self.high, statistics.max)):
            values = torch.as_tensor(np.asarray(seen, float), device=bound.device)
            bound.copy_(torch.where(self.held, values.to(bound.dtype), 0))

    def fold(self, scale: Any, offset: Any) -> None:
        """Bound x where scale * x + offset was bounded; see `Normalizer.fold`."""
        factor, shift = (torch.as_tensor(v).to(self.low) for v in (scale, offset))
        bounds = (self.low - shift) / factor, (self.high - shift) / factor
        self.low.copy_(torch.where(self.held, torch.minimum(*bounds), 0))
        self.high.copy_(torch.where(self.held, torch.maximum(*bounds), 0))

    def hold(self, entries: Sequence[int], low: Any, high: Any) -> None:
        """Hold these numbers of an action [A] too, between low and high, [len(entries)] each."""
        chosen = list(entries)
        self.held[chosen] = True
        for bound, values in ((self.low, low), (self.high, high)):
            bound[chosen] = torch.as_tensor(values).to(bound)

    def forward(self, chunk: Tensor) -> Tensor:
        bounded = torch.maximum(torch.minimum(chunk, self.high.to(chunk)), self.low.to(chunk))
        return torch.where(self.held, bounded, chunk)

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        earlier = {f"{prefix}{name}": bound for name, bound in self.named_buffers()}
        super()._load_from_state_dict({**earlier, **state}, prefix, *rest)
