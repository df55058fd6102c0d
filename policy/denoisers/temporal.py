"""Temporal layers in time-major layout [T, B, C].

A chunk is short and its channels are many, so a convolution over time is a handful of matrix
products, one per tap of the kernel, each over contiguous frames of all rows at once:

    out[t] = bias + sum over taps k of  x[t + k - pad] @ weight[k]

             t=0  1  2  3
    tap 0:    .  x0 x1 x2        frames outside the chunk are never multiplied: with a kernel
    tap 1:   x0 x1 x2 x3         of 5 over 4 frames, padding would waste 6 of 20 products
    tap 2:   x1 x2 x3  .

On a CPU this trains 2 to 4 times faster than Conv1d (docs/performance.md). Weights are stored
[K, C, C'], one matrix per tap; parameters are the same in number and meaning as those of Conv1d.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Without gradients and up to so many rows, one product over gathered frames beats one per tap.
SMALL_BATCH = 4


class Tap(NamedTuple):
    """out[out_start : out_start + length] += x[in_start : in_start + length] @ weight[k]"""

    k: int
    out_start: int
    in_start: int
    length: int


def convolution_taps(frames: int, kernel_size: int) -> list[Tap]:
    """Stride 1, padded so that the number of frames stays."""
    pad = kernel_size // 2
    shifts = [(k, k - pad) for k in range(kernel_size)]
    return [Tap(k, max(0, -s), max(0, s), frames - abs(s)) for k, s in shifts if abs(s) < frames]


def halving_taps(frames: int) -> list[Tap]:
    """Kernel 3, stride 2, padding 1, over frames in the order: even ones, odd ones."""
    half = frames // 2
    return [Tap(1, 0, 0, half), Tap(2, 0, half, half), Tap(0, 1, half, half - 1)]


def doubling_taps(frames: int) -> list[Tap]:
    """Transposed: kernel 4, stride 2, padding 1, to frames in the order: even ones, odd ones."""
    return [
        Tap(1, 0, 0, frames),
        Tap(3, 1, 0, frames - 1),
        Tap(2, frames, 0, frames),
        Tap(0, frames, 1, frames - 1),
    ]


class _TapProducts(torch.autograd.Function):
    """Sum of shifted matrix products; see `tap_products`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, taps: Sequence[Tap], frames_out: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.taps = taps
        rows = x.shape[1]
        flat = x.reshape(-1, x.shape[2])  # [T*B, C]
        out = bias.repeat(frames_out * rows, 1)  # [T'*B, C'], never the bias itself
        for tap in taps:
            source = flat.narrow(0, tap.in_start * rows, tap.length * rows)
            out.narrow(0, tap.out_start * rows, tap.length * rows).addmm_(source, weight[tap.k])
        return out.view(frames_out, rows, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = x.shape[1]
        flat, grad = x.reshape(-1, x.shape[2]), grads[0].reshape(-1, weight.shape[2])
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        grad_x = torch.zeros_like(flat) if need_x else None
        taps: Sequence[Tap] = ctx.taps
        grad_weight = torch.empty_like(weight) if need_weight else None
        if grad_weight is not None and len(taps) < len(weight):  # a chunk shorter than the kernel
            grad_weight.zero_()
        for tap in taps:
            source = slice(tap.in_start * rows, (tap.in_start + tap.length) * rows)
            target = slice(tap.out_start * rows, (tap.out_start + tap.length) * rows)
            if grad_x is not None:
                grad_x[source].addmm_(grad[target], weight[tap.k].t())
            if grad_weight is not None:
                torch.mm(flat[source].t(), grad[target], out=grad_weight[tap.k])
        return (
            None if grad_x is None else grad_x.view_as(x),
            grad_weight,
            grad.sum(0) if need_bias else None,
            None,
            None,
        )


def tap_products(
    x: Tensor, weight: Tensor, bias: Tensor, taps: Sequence[Tap], frames_out: int
) -> Tensor:
    """x: [T, B, C]; weight: [K, C, C']; bias: [C']. Returns [frames_out, B, C']."""
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    out: Tensor = _TapProducts.apply(x, weight, bias, taps, frames_out)  # type: ignore[no-untyped-call]
    return out


def gathered_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution of stride 1 as one product: [T, B, C], [K, C, C'], [C'] -> [T, B, C']."""
    frames, rows, _ = x.shape
    kernel_size, _, channels_out = weight.shape
    pad = kernel_size // 2
    windows = F.pad(x, (0, 0, 0, 0, pad, pad)).unfold(0, kernel_size, 1)  # [T, B, C, K]
    flat = windows.transpose(2, 3).reshape(frames * rows, -1)  # [T*B, K*C]
    out = torch.addmm(bias, flat, weight.reshape(-1, channels_out))
    return out.view(frames, rows, channels_out)


def is_small_inference(x: Tensor) -> bool:
    """Whether x [T, B, C] costs more in calls than in arithmetic, as on a robot: measured."""
    return x.shape[1] <= SMALL_BATCH and not torch.is_grad_enabled()


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
        if is_small_inference(x):
            return gathered_product(x, self.weight, self.bias)
        frames = x.shape[0]
        taps = convolution_taps(frames, self.kernel_size)
        return tap_products(x, self.weight, self.bias, taps, frames)


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


def mish_gate(x: Tensor) -> Tensor:
    """tanh(softplus(x)), what Mish multiplies x by, from one exponential: a third of F.mish's time.

    With e = exp(x): e (e + 2) / (e (e + 2) + 2). Beyond x = 20 it is 1 in single precision.
    """
    e = x.clamp(max=20).exp_()
    numerator = (e + 2).mul_(e)
    return numerator / (numerator + 2)


def mish_slope(x: Tensor, gate: Tensor) -> Tensor:
    """The derivative of Mish: gate + x (1 - gate^2) sigmoid(x)."""
    return (1 - gate * gate).mul_(torch.sigmoid(x)).mul_(x).add_(gate)


class _GroupNormMish(torch.autograd.Function):
    """Mish(GroupNorm(x)) with few passes over memory; see `TemporalNorm`.

    Sums over time come first, as [B, C]; the groups' statistics are then small.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, n_groups: int, eps: float
    ) -> Tensor:
        mean = _per_group(x.sum(0), n_groups, x.shape[0])  # [B, C], equal within a group
        centred = x - mean
        variance = _per_group((centred * centred).sum(0), n_groups, x.shape[0])
        inverse = torch.rsqrt(variance + eps)  # [B, C]
        normal = torch.addcmul(bias, centred, inverse * weight)  # [T, B, C]
        gate = mish_gate(normal)
        ctx.save_for_backward(centred, inverse, normal, gate, weight)
        ctx.n_groups = n_groups
        return normal * gate

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        centred, inverse, normal, gate, weight = ctx.saved_tensors
        frames = centred.shape[0]
        grad = mish_slope(normal, gate).mul_(grads[0])
        grad_sum = grad.sum(0)  # [B, C]
        dot = (grad * centred).sum(0) * inverse  # [B, C], the gradient against the normalised x
        mean_grad = _per_group(grad_sum * weight, ctx.n_groups, frames)
        mean_dot = _per_group(dot * weight, ctx.n_groups, frames)
        grad_x = grad.mul_(inverse * weight).sub_(inverse * mean_grad)
        grad_x.addcmul_(centred, inverse * inverse * mean_dot, value=-1)
        return grad_x, dot.sum(0), grad_sum.sum(0), None, None


def _per_group(sums: Tensor, n_groups: int, frames: int) -> Tensor:
    """[B, C] sums over time -> [B, C] means over time and the channels of a group."""
    grouped = sums.view(len(sums), n_groups, -1)  # [B, G, C/G]
    means: Tensor = grouped.mean(2, keepdim=True) / frames
    return means.expand_as(grouped).flatten(1)


class TemporalNorm(nn.GroupNorm):
    """GroupNorm, then Mish: [T, B, C] -> [T, B, C], statistics over time and a group's channels."""

    def forward(self, x: Tensor) -> Tensor:
        if is_small_inference(x):
            turned = x.to(self.weight.dtype).permute(1, 2, 0)  # [B, C, T]
            return F.mish(super().forward(turned)).permute(2, 0, 1)
        out: Tensor = _GroupNormMish.apply(  # type: ignore[no-untyped-call]
            x.to(self.weight.dtype), self.weight, self.bias, self.num_groups, self.eps
        )
        return out
