"""Networks that predict a target from the features of pictures: helpers of an objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dipole.data import Feature
from dipole.data.core.units import each_unit
from dipole.policy.core.named import NamedModules
from dipole.policy.core.row_draws import mean_divisor
from dipole.policy.heads.base import MeanError
from dipole.policy.normalizer import Normalizer

JOINED = "joined"


class TargetHead(nn.Sequential):
    """Features [..., G] -> normalised numbers [..., n]: LayerNorm, then a linear map, or two with
    a GELU between them.

    hidden: Numbers between the two; None: one map.
    """

    def __init__(self, dim: int, size: int, hidden: int | None) -> None:
        between = [] if hidden is None else [nn.Linear(dim, hidden), nn.GELU()]
        super().__init__(nn.LayerNorm(dim), *between, nn.Linear(hidden or dim, size))


@dataclass(frozen=True)
class TargetError:
    """How far predictions of a target are from what is stored.

    squared: The mean of squared, normalised errors over all that count, a scalar; 0: nothing does.
    errors: See `Loss.errors`; none in training.
    """

    squared: Tensor
    errors: Mapping[str, MeanError]


class TargetPredictor(nn.Module):
    """Predicts one target at each observed frame.

    cameras: {camera: size of its features} that it sees.
    each: Whether every camera predicts it by itself, or one head all of them together.
    """

    def __init__(
        self, feature: Feature, cameras: Mapping[str, int], each: bool, hidden: int | None
    ) -> None:
        super().__init__()
        self.feature, self.cameras, self.each = feature, tuple(cameras), each
        dims = dict(cameras) if each else {JOINED: sum(cameras.values())}
        self.heads = NamedModules(
            {name: TargetHead(dim, feature.size, hidden) for name, dim in dims.items()}
        )
        self.normalizer = Normalizer(feature.shape)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Normalised predictions [V, B, To, n], V heads one after another."""
        seen = [features[name] for name in self.cameras]
        inputs = seen if self.each else [torch.cat(seen, -1)]
        heads = self.heads.values()
        return torch.stack([head(x).float() for head, x in zip(heads, inputs, strict=True)])

    def error(
        self,
        features: Mapping[str, Tensor],
        values: Tensor,
        counted: Tensor | None,
        missing: Mapping[str, Tensor],
    ) -> TargetError:
        """features: {camera: [B, To, dim]}. values: What is stored, [B, To, *shape].

        counted: bool [B, To]; None: all. missing: {camera: bool [B]}, rows without its pictures.
        """
        predicted = self(features)
        wanted = self.normalizer.normalize(values).flatten(2)  # [B, To, n]
        counts = self._counts(predicted, counted, missing)
        difference = (predicted - wanted).masked_fill(~counts, 0)
        number = counts.expand_as(difference).sum()
        squared = difference.square().sum() / mean_divisor(number)
        return TargetError(squared, {} if self.training else self._errors(difference, counts))

    def _counts(
        self, predicted: Tensor, counted: Tensor | None, missing: Mapping[str, Tensor]
    ) -> Tensor:
        """bool [V, B, To, 1]: no head counts that has no picture to see."""
        views, rows, frames, _ = predicted.shape
        counts = torch.ones((views, rows, frames, 1), dtype=torch.bool, device=predicted.device)
        if counted is not None:
            counts &= counted[..., None]
        if any(name in missing for name in self.cameras):
            nothing = counts.new_zeros(rows)
            lacks = torch.stack([missing.get(name, nothing) for name in self.cameras])
            lacks = lacks if self.each else lacks.all(0, keepdim=True)
            counts &= ~lacks[..., None, None]
        return counts

    def _errors(self, difference: Tensor, counts: Tensor) -> dict[str, MeanError]:
        """Absolute errors by unit."""
        shape = self.feature.shape
        summed = difference.detach().abs().sum((0, 1, 2)).view(shape) / self.normalizer.scale.abs()
        summed = summed.view(-1, shape[-1]).sum(0)  # over all but the last axis
        each = counts.sum() * (self.feature.size // shape[-1])
        units = np.array(each_unit(self.feature.network_units, shape[-1]))
        found = {}
        for unit in dict.fromkeys(units.tolist()):
            columns = np.flatnonzero(units == unit).tolist()
            found[unit] = MeanError(summed[columns].sum(), each * len(columns))
        return found


def picked(cameras: str | Sequence[str], dims: Mapping[str, int]) -> dict[str, int]:
    """{camera: size} of those that a target is predicted from: "joined" and "each" are all."""
    return dict(dims) if isinstance(cameras, str) else {name: dims[name] for name in cameras}
