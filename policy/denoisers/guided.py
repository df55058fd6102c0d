"""A denoiser that is guided by what it says without the observation: classifier-free guidance."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dipole.policy.context import Context
from dipole.policy.denoisers.base import Denoiser, DenoiserWrapper, Prepared, map_tensors


class GuidedDenoiser(DenoiserWrapper):
    """A denoiser that is asked with two contexts for each row of x, and extrapolates.

    Its context has twice the rows: the conditional ones, then the unconditional ones; see `stack`.
    """

    extrapolates = True

    def __init__(self, denoiser: Denoiser, scale: float, passes: str = "batched") -> None:
        super().__init__(denoiser)
        self.scale, self.passes = scale, passes

    def predict(
        self, x: Tensor, time: Prepared, context: Prepared, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        if self.passes == "two":
            halves = _halves(context, x.shape[0])
            conditional, unconditional = (
                self.denoiser.predict(x, time, half, residuals) for half in halves
            )
        else:
            twice = [torch.cat([each, each]) for each in residuals]
            times = map_tensors(lambda each: _twice(each) if len(each) == len(x) else each, time)
            both = self.denoiser.predict(_twice(x), times, context, twice)
            conditional, unconditional = both.view(2, -1, *both.shape[1:])
        guided: Tensor = unconditional + self.scale * (conditional - unconditional)
        return guided


def _twice(x: Tensor) -> Tensor:
    return torch.cat([x, x])


def _halves(context: Prepared, rows: int) -> tuple[Prepared, Prepared]:
    return _rows(context, slice(rows)), _rows(context, slice(rows, None))


def _rows(nested: Prepared, which: slice) -> Prepared:
    """Some rows of each tensor, of a context's mask too."""
    if isinstance(nested, Context):
        return nested.rows_of(which)
    if nested is None or isinstance(nested, Tensor):
        return None if nested is None else nested[which]
    return tuple(_rows(each, which) for each in nested)
