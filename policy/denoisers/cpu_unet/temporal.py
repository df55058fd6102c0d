"""Temporal layers in time-major layout [T, B, C].

A chunk is short and its channels are many, so a convolution over time is a handful of matrix
products (products.py). Weights are stored [K, C, C'], one matrix per tap; parameters are the same
in number and meaning as those of Conv1d.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipole.policy.denoisers.cpu_unet.derivatives import (
    first_derivative_only,
    needs_plain_operations,
)
from dipole.policy.denoisers.cpu_unet.products import (
    convolution,
    doubling_taps,
    halving_taps,
    is_small_inference,
    tap_products,
)


class TemporalConv(nn.Module):
    """Convolution over time that keeps the number of frames: [T, B, C] -> [T, B, C']."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(kernel_size, channels_in, channels_out))
        self.bias = nn.Parameter(torch.empty(channels_out))
        self.reset_parameters(fan_in=channels_in * kernel_size)

    def reset_parameters(self, fan_in: int) -> None:
        """As torch initialises convolutions: uniform within 1 / sqrt(fan_in)."""
        bound = 1 / math.sqrt(fan_in)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return convolution(x, self.weight, self.bias)

    def without_bias(self, x: Tensor) -> Tensor:
        return convolution(x, self.weight, None)


class Halve(TemporalConv):
    """Convolution of stride 2 (kernel 3, padding 1): [T, B, C] -> [T/2, B, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=3)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[0]
        pairs = x.reshape(frames // 2, 2, *x.shape[1:])
        apart = pairs.transpose(0, 1).flatten(0, 1)  # even frames, then odd ones
        return tap_products(apart, self.weight, self.bias, halving_taps(frames), frames // 2)


class Double(TemporalConv):
    """Transposed convolution of stride 2 (kernel 4, padding 1): [T, B, C] -> [2T, B, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=4)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[0]
        apart = tap_products(x, self.weight, self.bias, doubling_taps(frames), 2 * frames)
        return apart.view(2, frames, *x.shape[1:]).transpose(0, 1).flatten(0, 1)  # interleaved


Film = tuple[Tensor, Tensor]  # scale and offset, each [B, C]


def mish_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mish(x) = x tanh(softplus(x)) and its derivative, from one exponential: in the time of F.mish
    alone.

    With e = exp(x) and d = 1 + (1 + e)^2, the hyperbolic tangent is 1 - 2 / d, and the derivative
    that plus 4 x e (1 + e) / d^2. Long before x = 40 the first is 1 and the other 0, to the last
    bit: there e stays what it is, so that nothing overflows.
    """
    one = x.new_ones(())
    e = x.clamp(max=40).exp_()
    more = e + 1
    inverse = torch.addcmul(one, more, more).reciprocal_()
    bend = e.mul_(more).mul_(inverse).mul_(inverse)
    gate = torch.sub(one, inverse, alpha=2, out=more)
    return torch.mul(gate, x, out=inverse), torch.addcmul(gate, bend, x, value=4, out=bend)


def norm_mish(
    x: Tensor,
    shift: Tensor,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    offset: Tensor | None,
    n_groups: int,
    eps: float,
) -> tuple[Tensor | None, ...]:
    """scale * Mish(GroupNorm(x + shift)) + offset with few passes over memory, and what the way
    back needs.

    x: [T, B, C]; the next three: [C]; scale and offset, FiLM's: [B, C], or neither. Sums over time
    come first, as [B, C]; the groups' statistics are then small.
    """
    frames = x.shape[0]
    sums = x.sum(0).add_(shift, alpha=frames)  # [B, C]
    mean = per_group(sums, n_groups, frames)  # [B, C], equal within a group
    centred = x + (shift - mean)
    variance = per_group((centred * centred).sum(0), n_groups, frames)
    inverse = torch.rsqrt(variance + eps)  # [B, C]
    active, slope = mish_and_slope(torch.addcmul(bias, centred, inverse * weight))
    left = sums.add_(mean, alpha=-frames)  # of the centred ones over time
    if scale is None or offset is None:
        return active, None, centred, inverse, slope, left
    return torch.addcmul(offset, active, scale), active, centred, inverse, slope, left


def norm_mish_gradients(
    grad_out: Tensor,
    active: Tensor | None,
    centred: Tensor,
    inverse: Tensor,
    slope: Tensor,
    left: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    n_groups: int,
) -> tuple[Tensor | None, ...]:
    """The way back of `norm_mish`: gradients by x, shift, weight, bias, scale and offset."""
    frames = centred.shape[0]
    if active is None or scale is None:
        grad, grad_scale, grad_offset = grad_out * slope, None, None
    else:
        grad_scale, grad_offset = (grad_out * active).sum(0), grad_out.sum(0)
        grad = (grad_out * scale).mul_(slope)
    grad_sum = grad.sum(0)  # [B, C]
    dot = (grad * centred).sum(0) * inverse  # [B, C], the gradient against the normalised x
    mean_grad = per_group(grad_sum * weight, n_groups, frames)
    mean_dot = per_group(dot * weight, n_groups, frames)
    of_mean, of_grad = -inverse * mean_grad, inverse * weight  # each [B, C], as the next
    of_centred = inverse * inverse * mean_dot
    grad_x = torch.addcmul(of_mean, grad, of_grad)
    grad_x.addcmul_(centred, of_centred, value=-1)
    # The sum of that over time, from sums that are there already.
    over_time = of_mean.mul_(frames).addcmul_(grad_sum, of_grad)
    grad_shift = over_time.addcmul_(left, of_centred, value=-1).sum(0)
    return grad_x, grad_shift, dot.sum(0), grad_sum.sum(0), grad_scale, grad_offset


class NormKernels(NamedTuple):
    """The two above, as they are or compiled."""

    forward: Callable[..., tuple[Tensor | None, ...]] = norm_mish
    backward: Callable[..., tuple[Tensor | None, ...]] = norm_mish_gradients


class _GroupNormMish(torch.autograd.Function):
    """See `norm_mish`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        shift: Tensor,
        weight: Tensor,
        bias: Tensor,
        scale: Tensor | None,
        offset: Tensor | None,
        n_groups: int,
        eps: float,
        kernels: NormKernels,
    ) -> Tensor | None:
        given = (x, shift, weight, bias, scale, offset)
        out, *needed = kernels.forward(*given, n_groups, eps)
        ctx.save_for_backward(*needed, weight, scale)
        ctx.n_groups, ctx.kernels = n_groups, kernels
        return out

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.kernels.backward(grads[0], *ctx.saved_tensors, ctx.n_groups)
        return (*found, None, None, None)


def per_group(sums: Tensor, n_groups: int, frames: int) -> Tensor:
    """[B, C] sums over time -> [B, C] means over time and the channels of a group."""
    grouped = sums.view(len(sums), n_groups, -1)  # [B, G, C/G]
    means: Tensor = grouped.mean(2, keepdim=True) / frames
    return means.expand_as(grouped).flatten(1)


class TemporalNorm(nn.GroupNorm):
    """GroupNorm, then Mish: [T, B, C] -> [T, B, C], statistics over time and a group's channels.

    kernels: how gradients are computed; training may compile them.
    """

    kernels = NormKernels()

    def forward(self, x: Tensor, shift: Tensor | None = None, film: Film | None = None) -> Tensor:
        """shift [C]: of what comes in, such as a bias that was not added to it yet."""
        if is_small_inference(x, self.weight) or needs_plain_operations():
            shifted = x.to(self.weight.dtype) if shift is None else x + shift
            turned = shifted.permute(1, 2, 0)  # [B, C, T]
            return modulated(F.mish(super().forward(turned)).permute(2, 0, 1), film)
        shift = torch.zeros_like(self.bias) if shift is None else shift
        given = (x.to(self.weight.dtype), shift, self.weight, self.bias, *(film or (None, None)))
        out: Tensor = _GroupNormMish.apply(  # type: ignore[no-untyped-call]
            *given,
            self.num_groups,
            self.eps,
            self.kernels if torch.is_grad_enabled() else NormKernels(),
        )
        return out


def modulated(x: Tensor, film: Film | None) -> Tensor:
    """x [T, B, C] times the scale, plus the offset."""
    return x if film is None else torch.addcmul(film[1], x, film[0])
