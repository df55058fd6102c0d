"""Parts of a chunk that are given, and how they pull at an estimate."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dipole.policy.diffusion.guidance import GIVEN, InpaintingGuidance
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import Estimate, clipped
from dipole.policy.diffusion.solvers.base import SolverStep

Estimator = Callable[[Tensor], Estimate]  # x [B, H, A] -> what the network says of it, not clipped


@dataclass(frozen=True)
class KnownChunk:
    """Parts of a chunk that are given: values [B, H, A], and how much each of them holds.

    mask: [B, H, A], from 0 (unknown) to 1 (given), or booleans. guidance: what is done about them.
    Where the mask is 0, nothing changes, to the last bit.
    """

    values: Tensor
    mask: Tensor
    guidance: InpaintingGuidance = field(default=InpaintingGuidance("replace"))

    @property
    def needs_gradients(self) -> bool:
        """Whether torch.inference_mode, which cannot differentiate, is out of the question."""
        return self.guidance.method == "jacobian"

    @property
    def replaces(self) -> bool:
        """Whether known parts are set to their values at every level, rather than guide."""
        return self.guidance.method == "replace" or self.is_clean

    @property
    def is_prefix(self) -> bool:
        """Whether the network is given known parts clean, as it learned to: see prefix.py."""
        return self.guidance.method == "prefix"

    @property
    def is_clean(self) -> bool:
        """Whether known parts are whole actions, given without noise: a prefix, or any others."""
        return self.is_prefix or self.guidance.method == GIVEN

    def set_in(self, x: Tensor, level: Level, noise: Tensor) -> Tensor:
        """x [B, H, A] with the given parts at their values at this level, or clean.

        noise: Standard normal, [B, H, A].
        """
        values = self.values if self.is_clean else level.mix(self.values, noise)
        return torch.where(self.mask >= 1, values, x)

    def within(self, x: Tensor) -> Tensor:
        """A clean x [B, H, A] within [-1, 1], or as far out as what is known there."""
        known = torch.where(self.mask > 0, self.values.abs(), 0).clamp(min=1)
        return torch.minimum(torch.maximum(x, -known), known)


def guided_estimate(
    estimate: Estimator, x: Tensor, step: SolverStep, clip: bool, known: KnownChunk
) -> Estimate:
    """What the network says at x [B, H, A], moved towards what is known.

        clean + (1 - tau) weight J^T (mask (values - clean))     tau: see InpaintingGuidance

    J is the derivative of the clean chunk by x / (signal + noise), or the identity. The noise moves
    so that both still make up x. The difference is that of the clipped clean chunk, J that of the
    unclipped one, for where it is clipped it would be 0. The result is not clipped: it says where
    to go, not where to be.
    """
    level, scale = step.level, step.level.signal + step.level.noise
    if known.needs_gradients:
        with torch.enable_grad():
            start = x.detach().requires_grad_()
            raw = estimate(start)
        clean, noise = clipped(Estimate(raw.clean.detach(), raw.noise.detach()), clip)
        pull = known.mask * (known.values - clean)
        pull = scale * torch.autograd.grad(raw.clean, start, pull)[0]
    else:
        clean, noise = clipped(estimate(x), clip)
        pull = known.mask * (known.values - clean)
    after = step.target or step.next  # a jump ends at its target; noise is put back afterwards
    begin = None if step.begin is None else (step.begin.signal, step.begin.noise)
    weight = known.guidance.weight(level.signal, level.noise, after.signal, after.noise, begin)
    change = (level.noise / scale * weight) * pull
    return Estimate(clean + change, noise - (level.signal / level.noise) * change)
