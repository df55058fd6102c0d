"""Mean flows: the average velocity by its derivative, without a teacher."""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.objectives.distillation.checks import check_share
from dipole.policy.training.objectives.distillation.flow_student import (
    FlowStudent,
    average_velocity,
    rows_at,
    spread,
    straight,
)
from dipole.policy.training.objectives.distillation.losses import squared


@OBJECTIVES.add("meanflow")
class MeanFlow(FlowStudent):
    """u(x_t, t, r) = v - (t - r) du/dt, v = epsilon - clean, du/dt the derivative along (v, 1, 0)
    of (x, t, r), without a gradient (Geng et al., 2025, eq. 10 and algorithm 1).

    The derivative is exact, forwards, by the network's plain operations; it is computed for the
    rows that need it alone.

    apart: Share of a batch with r < t; the others are flow matching.
    to_clean: Share of those with r = 0 and t drawn evenly from 0 to 1. One step of sampling asks
        for t = 1 and r = 0, close to which the distribution below hardly ever draws.
    mean, deviation: Of the logit-normal distribution of which t and r are drawn, the larger is t.
    power, least: Rows weigh 1 / (|error|^2 + least)^power (eq. 22), power 0 all the same; |error|^2
        is a sum over a chunk's numbers.
    train_encoder: See `Distillation`.
    """

    def __init__(
        self,
        policy: Policy,
        apart: float = 0.25,
        to_clean: float = 0.0,
        mean: float = -0.4,
        deviation: float = 1.0,
        power: float = 1.0,
        least: float = 1e-3,
        train_encoder: bool = True,
    ) -> None:
        super().__init__(policy, train_encoder)
        check_share("apart", apart)
        check_share("to_clean", to_clean)
        for name, value in (("deviation", deviation), ("least", least)):
            if not value > 0:
                raise ConfigError(f"objective.{name} is {value}: it must be positive")
        self.apart, self.to_clean = apart, to_clean
        self.logit = mean, deviation
        self.power, self.least = power, least

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        given = self.given(batch)
        clean, noise = given.clean, torch.randn_like(given.clean)
        own = rows_at(self.apart, len(clean))
        time, target = self._times(own, len(clean), clean.device)
        x, velocity = straight(clean, noise, time), noise - clean
        wanted = velocity
        if own:
            context = given.context.rows_of(slice(own))
            slope = self._slope(x[:own], velocity[:own], time[:own], target[:own], context)
            change = spread(time - target, x)[:own] * slope
            wanted = torch.cat([velocity[:own] - change, velocity[own:]])
        found = average_velocity(self.head, x, time, target, given.context)
        rows = squared(found - wanted, given.counted)
        numbers = clean[0].numel()
        weight = (numbers * rows.detach() + self.least) ** -self.power
        square = rows.detach().mean()
        if not self.training:  # what is divided by itself is the same of any policy
            return Loss(square, {"square": square})
        total = (weight * rows).mean() * numbers**self.power  # of the size of the plain square
        return Loss(total, {"square": square})

    def _times(self, own: int, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """t and r, [B], r < t in the first rows."""
        mean, deviation = self.logit
        drawn = torch.sigmoid(mean + deviation * torch.randn(rows, 2, device=device)).T
        # One after the other: of a batch that processes share each has its own rows of both.
        share, any_time = torch.rand(rows, device=device), torch.rand(rows, device=device)
        jumps = share < self.to_clean
        time = torch.where(jumps, any_time, drawn.amax(0))
        target = drawn.amin(0).masked_fill(jumps, 0.0)
        apart = torch.arange(rows, device=device) < own
        return torch.where(apart, time, drawn[0]), torch.where(apart, target, drawn[0])

    @torch.no_grad()
    def _slope(
        self, x: Tensor, velocity: Tensor, time: Tensor, target: Tensor, context: Context
    ) -> Tensor:
        """du/dt along the path, [B, H, A]."""
        context = context.map(lambda part: part.detach())

        def along(x: Tensor, time: Tensor) -> Tensor:
            return average_velocity(self.head, x, time, target, context)

        with sdpa_kernel(SDPBackend.MATH):  # the kernels that are faster have no such derivative
            primal, tangent = (x, time), (velocity, torch.ones_like(time))
            slope: Tensor = torch.func.jvp(along, primal, tangent)[1]
        return slope
