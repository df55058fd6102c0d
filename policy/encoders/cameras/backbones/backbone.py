"""What a backbone is: a network from pictures to features, which knows their statistics."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class BackboneOutput:
    """What a backbone computes of pictures.

    features: [N, C, h', w'], by place in the picture.
    pooled: [N, C], where the network has a class token or a pooled output of its own.
    """

    features: Tensor
    pooled: Tensor | None = None

    def chunk(self, count: int) -> "list[BackboneOutput]":
        """Cut into equal parts, in order."""
        pooled = [None] * count if self.pooled is None else self.pooled.chunk(count)
        features = self.features.chunk(count)
        return [BackboneOutput(f, p) for f, p in zip(features, pooled, strict=True)]


class Backbone(nn.Module):
    """A network of pictures [N, 3, h, w], normalised by its own mean and std [3].

    channels: C of what it returns.
    has_pooled: Whether it gives a pooled output of its own.
    """

    channels: int
    has_pooled: bool = False
    mean: Sequence[float]
    std: Sequence[float]

    def forward(self, images: Tensor) -> BackboneOutput:
        """Features of pictures [N, 3, h, w]."""
        raise NotImplementedError

    def sharding_units(self) -> Sequence[nn.Module]:
        """See `Denoiser.sharding_units`."""
        return ()

    def check_size(self, size: tuple[int, int], camera: str) -> None:
        """Raise ConfigError for pictures of a height and width that it cannot take."""

    def map_size(self, size: tuple[int, int]) -> tuple[int, int] | None:
        """h' and w' of the features of pictures of a height and width, 0 where they are too small;
        None: it does not say, and nothing is checked."""
        return None

    def load_weights(self) -> None:
        """Load pretrained weights, where the configuration names some; called for a new run."""


def halved(side: int, times: int) -> int:
    """A side after so many padded convolutions of stride 2, each of which leaves a half, rounded
    up.

    >>> [halved(side, 5) for side in (32, 33, 96)]
    [1, 2, 3]
    """
    return -(-side // (1 << times))
