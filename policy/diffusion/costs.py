"""Cost guidance: estimates of the clean chunk move down the gradient of a cost.

    clean' = clean - scale * variance * dcost/dclean      variance = noise^2 / (signal^2 + noise^2)

The variance is that of the clean chunk given x, for data of variance 1: so the mean of the clean
chunk moves, to first order, where chunks are weighted by exp(-scale * cost). It vanishes with the
noise. No gradient goes through the network (compare Janner et al., 2022, Diffuser).

A cost is a function of chunks [B, H, A] in the robot's numbers, as converted for the network where
the action has conversions; it gives one number a row, [B], and PyTorch differentiates it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import COSTS, build
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import Estimate

Cost = Callable[[Tensor], Tensor]
TERM = ("scale", "inner_steps", "stop")  # entries of a configuration that are not the cost's own


@dataclass(frozen=True)
class CostTerm:
    """A cost, and how strongly chunks are guided by it.

    cost: Chunks [B, H, A] -> [B].
    scale: 0 changes nothing, to the last bit.
    inner_steps: The gradient is taken anew so many times, each for an equal part of the way.
    stop: Where noise / (signal + noise) is below it, the cost is left out; 0: nowhere.
    """

    cost: Cost
    scale: float = 1.0
    inner_steps: int = 1
    stop: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.scale < float("inf"):
            raise ConfigError(f"a cost's scale is {self.scale}: a number from 0")
        if type(self.inner_steps) is not int or self.inner_steps < 1:
            raise ConfigError(f"a cost's inner_steps are {self.inner_steps!r}: at least 1")
        if not 0 <= self.stop <= 1:
            raise ConfigError(f"a cost's stop is {self.stop}: it lies between 0 and 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CostTerm":
        """From plain values: the cost's name and options, and the fields of this class."""
        own = {name: values[name] for name in TERM if name in values}
        rest = {name: value for name, value in values.items() if name not in TERM}
        return cls(build(COSTS, rest), **own)

    def of(self, mapping: Callable[[Tensor], Tensor]) -> "CostTerm":
        """The same, of chunks that `mapping` takes to those that the cost is of."""
        cost = self.cost
        composed: Cost = lambda chunk: cost(mapping(chunk))  # noqa: E731
        return CostTerm(composed, self.scale, self.inner_steps, self.stop)

    def moved(self, clean: Tensor, level: Level) -> Tensor:
        """The clean chunk [B, H, A] after this term at a level of floats."""
        if not self.scale or level.noise < self.stop * (level.signal + level.noise):
            return clean
        variance = level.noise**2 / (level.signal**2 + level.noise**2)
        step = self.scale * variance / self.inner_steps
        for _ in range(self.inner_steps):
            clean = clean - step * self._gradient(clean)
        return clean

    def _gradient(self, clean: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            here = clean.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.cost(here).sum(), here)
        return gradient


def moved_by_costs(
    estimate: Estimate, level: Level, costs: Sequence[CostTerm], clip: bool
) -> Estimate:
    """An estimate at a level of floats after all terms; the noise moves so that x stays as it is.

    clip: Whether clean chunks that were moved are kept within [-1, 1].
    """
    clean = estimate.clean
    for term in costs:
        clean = term.moved(clean, level)
    if clean is estimate.clean:
        return estimate
    clean = clean.clamp(-1, 1) if clip else clean
    return Estimate(clean, estimate.noise - (level.signal / level.noise) * (clean - estimate.clean))


@COSTS.add("obstacle")
@dataclass(frozen=True)
class Obstacle:
    """How deep the chunk's positions lie inside a ball: the sum of squared depths over its frames.

    centre: As many numbers as the positions have.
    radius: Of the ball; margin: by which it is kept away from, in the same unit.
    first: The first of the action's numbers that is a position; the others follow it.
    """

    centre: tuple[float, ...]
    radius: float
    margin: float = 0.0
    first: int = 0

    def __call__(self, chunk: Tensor) -> Tensor:
        if self.first < 0 or self.first + len(self.centre) > chunk.shape[-1]:
            raise ConfigError(
                f"cost 'obstacle' has centre {list(self.centre)} from number {self.first} on, but "
                f"an action has {chunk.shape[-1]} numbers"
            )
        centre = torch.tensor(self.centre, dtype=chunk.dtype, device=chunk.device)
        offsets = chunk[..., self.first : self.first + len(self.centre)] - centre  # [B, H, D]
        distances = (offsets.square().sum(-1) + 1e-12).sqrt()
        return (self.radius + self.margin - distances).clamp(min=0).square().sum(1)


@COSTS.add("acceleration")
def acceleration() -> Cost:
    """The sum of squared second differences over the chunk's frames."""

    def cost(chunk: Tensor) -> Tensor:
        return chunk.diff(n=2, dim=1).square().sum((1, 2))

    return cost
