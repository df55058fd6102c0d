"""GroupNorm, Mish and FiLM as one function with its backward pass, of few passes over memory.

x: [T, B, C]; a group is some channels of one row, over all frames: n numbers. shift [C], scale and
offset [B, C]:

    centred = x + shift - mean(x + shift)             mean: over the n numbers of a group
    inverse = 1 / sqrt(mean(centred^2) + eps)
    normal  = centred * inverse * weight + bias
    out     = scale * mish(normal) + offset           mish(z) = z tanh(softplus(z))

Backward, where g = dL/d normal = dL/d out * scale * mish'(normal):

    u = g weight                                      z = centred inverse
    dL/d offset = sum over T of dL/d out              dL/d bias   = sum over T, B of g
    dL/d scale  = sum over T of dL/d out * mish       dL/d weight = sum over T, B of g z
    dL/d x      = inverse (u - mean(u) - z mean(u z)) dL/d shift  = sum over T, B of dL/d x

Sums over T come first, as [B, C]; means over groups are then of small tensors. The same functions
run as they are or compiled (compiled.py).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipole.policy.core.derivatives import applied, first_derivative_only
from dipole.policy.denoisers.cpu_unet.temporal_conv import is_small_inference

Film = tuple[Tensor, Tensor]  # scale and offset, each [B, C]
LARGE = 40.0  # from here on Mish is the identity, to the last bit; exp(LARGE)^2 is finite


def mish_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mish(x) and its derivative, from one exponential: in the time of F.mish alone.

    With e = exp(x) and d = 1 / (1 + (1 + e)^2):
        tanh(softplus(x)) = 1 - 2 d                  mish'(x) = 1 - 2 d + 4 x e (1 + e) d^2
    """
    one = x.new_ones(())
    e = x.clamp(max=LARGE).exp_()
    e_plus_1 = e + 1
    d = torch.addcmul(one, e_plus_1, e_plus_1).reciprocal_()
    bend = e.mul_(e_plus_1).mul_(d).mul_(d)  # e (1 + e) d^2, in the memory of e
    tanh = torch.sub(one, d, alpha=2, out=e_plus_1)  # out: memory that is in the cache
    return torch.mul(tanh, x, out=d), torch.addcmul(tanh, bend, x, value=4, out=bend)


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
    """(out, then what the backward pass needs: mish if there is a scale, centred, inverse, mish',
    sum of centred over T)."""
    frames = x.shape[0]
    sums = x.sum(0).add_(shift, alpha=frames)  # [B, C]
    mean = per_group(sums, n_groups, frames)  # [B, C], equal within a group
    centred = x + (shift - mean)
    variance = per_group((centred * centred).sum(0), n_groups, frames)
    inverse = torch.rsqrt(variance + eps)  # [B, C]
    mish, slope = mish_and_slope(torch.addcmul(bias, centred, inverse * weight))
    sum_centred = sums.add_(mean, alpha=-frames)
    if scale is None or offset is None:
        return mish, None, centred, inverse, slope, sum_centred
    return torch.addcmul(offset, mish, scale), mish, centred, inverse, slope, sum_centred


def norm_mish_backward(
    grad_out: Tensor,
    mish: Tensor | None,
    centred: Tensor,
    inverse: Tensor,
    slope: Tensor,
    sum_centred: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    n_groups: int,
) -> tuple[Tensor | None, ...]:
    """Gradients by x, shift, weight, bias, scale and offset; names as at the head of this file."""
    frames = centred.shape[0]
    if mish is None or scale is None:
        g, grad_scale, grad_offset = grad_out * slope, None, None
    else:
        grad_scale, grad_offset = (grad_out * mish).sum(0), grad_out.sum(0)
        g = (grad_out * scale).mul_(slope)
    sum_g = g.sum(0)  # [B, C]
    sum_g_normal = (g * centred).sum(0) * inverse  # [B, C]
    # dL/d x = of_1 + g * of_g - centred * of_centred, each [B, C].
    of_1 = -inverse * per_group(sum_g * weight, n_groups, frames)
    of_g = inverse * weight
    of_centred = inverse * inverse * per_group(sum_g_normal * weight, n_groups, frames)
    grad_x = torch.addcmul(of_1, g, of_g)
    grad_x.addcmul_(centred, of_centred, value=-1)
    # Its sum over T, from sums that are there already.
    sum_grad_x = of_1.mul_(frames).addcmul_(sum_g, of_g).addcmul_(sum_centred, of_centred, value=-1)
    return grad_x, sum_grad_x.sum(0), sum_g_normal.sum(0), sum_g.sum(0), grad_scale, grad_offset


def per_group(sums: Tensor, n_groups: int, frames: int) -> Tensor:
    """[B, C] sums over time -> [B, C] means over time and the channels of a group."""
    grouped = sums.view(len(sums), n_groups, -1)  # [B, G, C / G]
    means: Tensor = grouped.mean(2, keepdim=True) / frames
    return means.expand_as(grouped).flatten(1)


class NormKernels(NamedTuple):
    """The two passes, as they are or compiled."""

    forward: Callable[..., tuple[Tensor | None, ...]] = norm_mish
    backward: Callable[..., tuple[Tensor | None, ...]] = norm_mish_backward


EAGER = NormKernels()


class _NormMish(torch.autograd.Function):
    """See the head of this file."""

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


def group_norm_mish(
    norm: nn.GroupNorm,
    x: Tensor,
    shift: Tensor | None = None,
    film: Film | None = None,
    kernels: NormKernels = EAGER,
) -> Tensor:
    """GroupNorm of x + shift, Mish, and FiLM: [T, B, C] -> [T, B, C]."""
    if is_small_inference(x, norm.weight):
        shifted = x.to(norm.weight.dtype) if shift is None else x + shift
        turned = shifted.permute(1, 2, 0)  # [B, C, T]
        normal = F.group_norm(turned, norm.num_groups, norm.weight, norm.bias, norm.eps)
        out = F.mish(normal).permute(2, 0, 1)
        return out if film is None else torch.addcmul(film[1], out, film[0])
    shift = torch.zeros_like(norm.bias) if shift is None else shift
    given = (x.to(norm.weight.dtype), shift, norm.weight, norm.bias, *(film or (None, None)))
    found: Tensor = applied(_NormMish, *given, norm.num_groups, norm.eps, kernels)
    return found
