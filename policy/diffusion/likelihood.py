"""How likely chunks are to a policy, by the probability-flow ODE.

Any process is a rotation, once x is divided by its length r = sqrt(signal² + noise²):

    u = x / r = cos(angle) clean + sin(angle) epsilon      angle from 0, clean, to at most pi / 2
    du / d angle = cos(angle) E[epsilon | x] - sin(angle) E[clean | x]

The density of a chunk is that of the noise which it flows to, times what the flow contracts on the
way (Song et al., 2021, arXiv 2011.13456, section 4.3):

    log p(chunk) = log p(u at the last level) + integral of tr(d velocity / du) d angle

At angle 0 velocity and trace are 0 for any density that is smooth.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import Estimate

LevelEstimator = Callable[[Tensor, Level], Estimate]


def log_likelihood(
    estimate: LevelEstimator,
    chunks: Tensor,
    levels: Sequence[Level],
    start_scale: float,
    *,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """log p of clean chunks, nats, [B], by Heun's method over the levels.

    estimate: What the network says of x [B, H, A] at a level; not clipped, and differentiable.
    chunks: [B, H, A], normalised: the density is per unit of normalised actions.
    levels: From the most noise to none, as `Process.grid` gives them: more of them, less error.
    start_scale: Standard deviation of x at the first level, `Process.start_scale`.
    probes: Random directions for the trace (Hutchinson, 1990), each at the price of one backward
        pass an evaluation; None: exact, at the price of H * A of them.
    generator: For the probes, on any device: they are drawn where it lives.
    """
    directions = _directions(chunks, probes, generator)
    u, total = chunks.detach(), torch.zeros(len(chunks), dtype=chunks.dtype, device=chunks.device)
    slope, trace = torch.zeros_like(u), torch.zeros_like(total)
    for before, after in pairwise(list(levels)[::-1]):
        step = _angle(after) - _angle(before)
        ahead, trace_ahead = _velocity(estimate, u + step * slope, after, directions)
        u = u + step / 2 * (slope + ahead)
        total = total + step / 2 * (trace + trace_ahead)
        slope, trace = _velocity(estimate, u, after, directions)
    first = levels[0]
    scale = start_scale / math.hypot(first.signal, first.noise)
    numbers = u[0].numel()
    normal = -0.5 * (u / scale).flatten(1).square().sum(1)
    return normal - numbers * math.log(scale * math.sqrt(2 * math.pi)) + total


def _angle(level: Level) -> float:
    return math.atan2(level.noise, level.signal)


def _velocity(
    estimate: LevelEstimator, u: Tensor, level: Level, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """du / d angle [B, H, A] and the trace of its derivative [B]."""
    length = math.hypot(level.signal, level.noise)
    with torch.enable_grad():
        start = u.detach().requires_grad_()
        found = estimate(length * start, level)
        velocity = (level.signal * found.noise - level.noise * found.clean) / length
        traces = [
            (torch.autograd.grad(velocity, start, each, retain_graph=True)[0] * each)
            .flatten(1)
            .sum(1)
            for each in directions
        ]
    return velocity.detach(), torch.stack(traces).sum(0).detach()


def _directions(chunks: Tensor, probes: int | None, generator: torch.Generator | None) -> Tensor:
    """Directions [N, B, H, A] whose quadratic forms add up to the trace, or do so on average."""
    if probes is None:
        unit = torch.eye(chunks[0].numel(), dtype=chunks.dtype, device=chunks.device)
        return unit.view(-1, 1, *chunks.shape[1:]).expand(-1, *chunks.shape)
    if probes < 1:
        raise ValueError(f"probes is {probes}: at least one direction is needed")
    device = chunks.device if generator is None else generator.device
    drawn = torch.randint(2, (probes, *chunks.shape), generator=generator, device=device)
    return (2 * drawn - 1).to(chunks) / math.sqrt(probes)
