"""What a mixture does with one part's numbers: moved to a common range, put in their places."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.loading.statistics import Statistics


@dataclass(frozen=True)
class Rescaling:
    """x -> scale * x + offset, of each entry; float32 [*shape]."""

    scale: np.ndarray
    offset: np.ndarray

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """frames: [N, *shape], float32, in the part's numbers -> in the mixture's."""
        return np.asarray(frames * self.scale + self.offset, np.float32)

    def spread(self, entries: Sequence[int], size: int) -> "Rescaling":
        """Of vectors of `size` numbers, whose other entries stay as they are."""
        scale, offset = np.ones(size, np.float32), np.zeros(size, np.float32)
        scale[list(entries)], offset[list(entries)] = self.scale, self.offset
        return Rescaling(scale, offset)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"scale": self.scale.tolist(), "offset": self.offset.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Rescaling":
        """From plain JSON; raises ValueError for anything else."""
        try:
            scale, offset = (np.array(values[name], np.float32) for name in ("scale", "offset"))
        except (KeyError, TypeError) as error:
            raise ValueError(f"a rescaling has a scale and an offset: {error}") from error
        if scale.shape != offset.shape or not np.isfinite([scale, offset]).all():
            raise ValueError(f"a rescaling of shapes {scale.shape} and {offset.shape}")
        return cls(scale, offset)


@dataclass(frozen=True)
class Placement:
    """Numbers [N, n] to entries of vectors [N, size], which are 0 elsewhere."""

    entries: tuple[int, ...]
    size: int

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        placed = np.zeros((len(frames), self.size), frames.dtype)
        placed[:, list(self.entries)] = frames
        return placed


@dataclass(frozen=True)
class Both:
    """A rescaling, then a placement."""

    rescaling: Rescaling
    placement: Placement

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return self.placement(self.rescaling(frames))


def rescaling(normalize: str, part: Statistics, merged: Statistics) -> Rescaling | None:
    """What takes a part's range to the merged one; None where nothing is normalised.

    normalize: limits, quantiles or gaussian: which range.
    """
    if normalize == "identity":
        return None
    center, half = _range(normalize, part)
    to_center, to_half = _range(normalize, merged)
    constant = part.constant | merged.constant
    scale = np.where(constant, 1, to_half / np.where(constant, 1, half))
    offset = to_center - scale * center
    return Rescaling(scale.astype(np.float32), offset.astype(np.float32))


def _range(normalize: str, statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """Its middle, and how far it reaches to either side."""
    if normalize == "gaussian":
        return statistics.mean, statistics.std
    low, high = statistics.min, statistics.max
    if normalize == "quantiles":
        low, high = statistics.quantile_range()
    return (low + high) / 2, (high - low) / 2
