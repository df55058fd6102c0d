"""From noise to a chunk: the one loop over any solver's table."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from dipole.policy.diffusion.costs import CostTerm, moved_by_costs
from dipole.policy.diffusion.known import Estimator, KnownChunk, guided_estimate
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import clipped
from dipole.policy.diffusion.solvers.base import SolverStep

CLEAN = Level(0.0, 1.0, 0.0)


def denoise(
    estimators: Sequence[Estimator],
    x: Tensor,
    table: Sequence[SolverStep],
    draw: Callable[[], Tensor],
    *,
    clip: bool = False,
    known: KnownChunk | None = None,
    noise: Tensor | None = None,
    costs: Sequence[CostTerm] = (),
) -> Tensor:
    """Run a table over x [B, H, A], a chunk at the first row's level, down to a clean one.

    estimators: For each row, what the network says of an x at its level.
    draw: Gives fresh noise [B, H, A].
    clip: Whether estimates of the clean chunk are kept within [-1, 1]; what known parts have
        guided, when it comes out.
    known: Parts that are given. Those that replace are set, before every evaluation and after the
        last one, to their values at that level, so that they come out exactly.
    noise: Standard normal [B, H, A], of which these are made; by default x, where that is noise.
    costs: Of clean chunks, normalised: estimates move down their gradients.
    """
    replaced = known if known is not None and known.replaces else None
    guided = known if replaced is None else None
    noise = x if noise is None else noise
    xs, cleans, noises = (History(depth) for depth in depths(table))
    for step, estimate in zip(table, estimators, strict=True):
        if replaced is not None:
            x = replaced.set_in(x, step.level, noise)
        z = draw() if step.fresh_noise > 0 else None
        if guided is not None:
            found = guided_estimate(estimate, x, step, clip, guided)
        else:
            found = clipped(estimate(x), clip)
        found = moved_by_costs(found, step.level, costs, clip and guided is None)
        for history, newest in ((xs, x), (cleans, found.clean), (noises, found.noise)):
            history.add(newest)
        x = next_x(step, xs.entries, cleans.entries, noises.entries, z)
    if guided is not None and clip:
        x = guided.within(x)  # estimates say where to go, and the last step went there
    return x if replaced is None else replaced.set_in(x, CLEAN, noise)


class History:
    """The newest entries, at most `depth` of them, newest first."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.entries: list[Tensor] = []

    def add(self, entry: Tensor) -> None:
        self.entries = [entry, *self.entries][: self.depth]


def depths(table: Sequence[SolverStep]) -> tuple[int, int, int]:
    """How many x, clean chunks and noises a table's rows take, this evaluation's among them."""
    return (
        max((len(step.from_x) for step in table), default=0),
        max((len(step.from_clean) for step in table), default=0),
        max((len(step.from_noise) for step in table), default=0),
    )


def next_x(
    step: SolverStep,
    xs: Sequence[Tensor],
    cleans: Sequence[Tensor],
    noises: Sequence[Tensor],
    z: Tensor | None,
) -> Tensor:
    """x [B, H, A] after a row, from histories that are newest first; z: fresh noise."""
    terms: list[tuple[Any, Tensor]] = [
        *zip(step.from_clean, cleans, strict=False),
        *zip(step.from_x, xs, strict=False),
        *zip(step.from_noise, noises, strict=False),
    ]
    if z is not None:
        terms.append((step.fresh_noise, z))
    counted = [factor * entry for factor, entry in terms if not _is_zero(factor)]
    total: Tensor = counted[0]
    for term in counted[1:]:
        total = total + term
    return total


def _is_zero(factor: Any) -> bool:
    """Whether it is known to be: a table's numbers may be tensors, in a loop of a runtime."""
    return not isinstance(factor, Tensor) and factor == 0
