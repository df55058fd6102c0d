"""What a backbone is: the network that turns pictures into features, and knows their statistics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """features: [N, C, h', w'], the picture's plan kept. summary: [N, C], where the network has a
    summary of its own (a class token, a pooled output)."""

    features: Tensor
    summary: Tensor | None = None

    def chunk(self, count: int) -> "list[Seen]":
        """Cut into equal parts, in order."""
        summaries = [None] * count if self.summary is None else self.summary.chunk(count)
        return [Seen(f, s) for f, s in zip(self.features.chunk(count), summaries, strict=True)]


class Backbone(Protocol):
    """A module whose input are pictures [N, 3, h, w] normalised by its own mean and std [3].

    channels: C of what it returns.
    """

    channels: int
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, images: Tensor) -> Seen: ...
