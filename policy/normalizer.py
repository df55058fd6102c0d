"""Per-key affine normalisation, part of the policy's weights."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dipole.data import Statistics
from dipole.data.core.errors import ConfigError

KINDS = ("limits", "quantiles", "gaussian", "identity")


def over_pixels(statistics: Statistics) -> Statistics:
    """Statistics of depth [height, width, 1] pooled over pixels, so that all have one scale."""
    shape, mean = np.shape(statistics.min), np.mean(statistics.mean)
    spread = np.sqrt(np.mean(np.square(statistics.std) + np.square(statistics.mean - mean)))
    return replace(
        statistics,
        min=np.full(shape, np.min(statistics.min)),
        max=np.full(shape, np.max(statistics.max)),
        mean=np.full(shape, mean),
        std=np.full(shape, spread),
    )


class Normalizer(nn.Module):
    """x -> scale * x + offset for each element of a key, and its inverse.

    shape: Of one frame of the key.
    scale, offset: Buffers of that shape, saved with the weights.
    constant: Indices of dimensions with a range below 1e-4, which are only shifted to 0.

    >>> normalizer = Normalizer.limits(np.array([[0.0, 5.0], [10.0, 5.0]]))
    >>> normalizer.normalize(torch.tensor([[2.5, 5.0]]))
    tensor([[-0.5000,  0.0000]])
    >>> normalizer.constant
    [1]
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(tuple(shape)))
        self.register_buffer("offset", torch.zeros(tuple(shape)))
        self.constant: list[int] = []

    @classmethod
    def limits(cls, array: Any) -> "Normalizer":
        """Fitted so that the smallest and largest of array [N, *shape] go to -1 and 1."""
        return cls.from_statistics("limits", Statistics.of(np.asarray(array)))

    @classmethod
    def gaussian(cls, array: Any) -> "Normalizer":
        """Fitted so that array [N, *shape] gets mean 0 and unbiased standard deviation 1."""
        return cls.from_statistics("gaussian", Statistics.of(np.asarray(array)))

    @classmethod
    def from_statistics(cls, kind: str, statistics: Statistics) -> "Normalizer":
        normalizer = cls(np.shape(statistics.min))
        normalizer.fit(kind, statistics)
        return normalizer

    def fit(self, kind: str, statistics: Statistics) -> None:
        """Set scale and offset in place from the statistics of the training episodes."""
        if kind not in KINDS:
            raise ConfigError(f"unknown normalisation {kind!r}; known: {', '.join(KINDS)}")
        low, high = np.asarray(statistics.min, float), np.asarray(statistics.max, float)
        scale, offset = np.ones_like(low), np.zeros_like(low)
        constant = statistics.constant & (kind != "identity")
        if kind == "quantiles":
            low, high = statistics.quantile_range()
        if kind in ("limits", "quantiles"):
            scale = 2 / np.where(constant, 2, high - low)
            offset = np.where(constant, -low, -1 - scale * low)
        elif kind == "gaussian":
            scale = 1 / np.where(constant, 1, np.asarray(statistics.std, float))
            offset = -scale * np.asarray(statistics.mean, float)
        self.constant = np.flatnonzero(constant).tolist()
        self.scale.copy_(torch.as_tensor(scale))
        self.offset.copy_(torch.as_tensor(offset))

    def fold(self, scale: Any, offset: Any) -> None:
        """Normalise scale * x + offset from now on, for inputs x; `unnormalize` returns x.

        scale, offset: Of the key's shape.
        """
        self.offset.add_(self.scale * self._as_tensor(offset))
        self.scale.mul_(self._as_tensor(scale))

    def normalize(self, x: Any) -> Tensor:
        """x: [..., *shape], tensor or array in the robot's units. Returns [..., *shape]."""
        return torch.addcmul(self.offset, self._as_tensor(x), self.scale)

    def unnormalize(self, x: Any) -> Tensor:
        """The inverse of `normalize`."""
        return (self._as_tensor(x) - self.offset) / self.scale

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Normalizer":
        """Keep single precision at least: bf16 cannot represent 0.1 mm at 0.5 m."""
        kept = {"scale": self.scale, "offset": self.offset}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in kept.items():
            now = getattr(self, name)
            if torch.finfo(now.dtype).bits < torch.finfo(before.dtype).bits:
                setattr(self, name, before.to(now.device))
        return self

    def _as_tensor(self, x: Any) -> Tensor:
        return torch.as_tensor(x, dtype=self.scale.dtype, device=self.scale.device)
