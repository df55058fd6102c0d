"""A solver's way from noise to a chunk, and what of it no observation changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dipole.policy.denoisers.base import Prepared
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.solvers import Solver, SolverStep


@dataclass(frozen=True)
class Way:
    """Which way is taken.

    scale: Of guidance, for a network that is told it.
    strength: 1: from pure noise; less: of the last part of the steps alone (SDEdit).
    """

    solver: Solver
    scale: float | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class Schedule:
    """The levels that are visited, the last one clean; a row for each evaluation of the network;
    and what the network computes of the rows' times alone."""

    levels: Sequence[Level]
    table: Sequence[SolverStep]
    times: Prepared


class ScheduleCache(nn.Module):
    """The schedule of the way that was taken last, while weights stay as they are.

    A part of the head, so that it learns what becomes of the weights: it forgets its schedule where
    they are loaded or converted, and keeps none any more after `train()`.

    is_on: Whether it keeps one; by default not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_on = False
        self._kept: tuple[Way, Schedule] | None = None
        self.register_load_state_dict_post_hook(_clear)  # type: ignore[no-untyped-call]

    def clear(self) -> None:
        self._kept = None

    def get(self, way: Way, make: Callable[[Way], Schedule]) -> Schedule:
        if not self.is_on:
            return make(way)
        kept = self._kept  # other threads may replace it
        if kept is None or kept[0] != way:
            # Tensors of inference_mode could not be used where guidance needs gradients.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = kept = way, make(way)
        return kept[1]

    def train(self, mode: bool = True) -> "ScheduleCache":
        if mode:
            self.is_on = False
            self.clear()
        super().train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ScheduleCache":
        self.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def _clear(cache: nn.Module, _incompatible_keys: object) -> None:
    """A function of its own: modules with hooks that are lambdas cannot be pickled."""
    assert isinstance(cache, ScheduleCache)
    cache.clear()
