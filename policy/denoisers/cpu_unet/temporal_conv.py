"""Convolutions over time as matrix products, in time-major layout: [T, B, C], [K, C, C'].

Three ways to the same numbers; `convolution` chooses. One product per tap of the kernel, each over
contiguous frames of all rows at once:

    out[t] = bias + sum over taps k of  x[t + k - pad] @ weight[k]

             t=0  1  2  3
    tap 0:    .  x0 x1 x2        frames outside the chunk are never multiplied: with a kernel
    tap 1:   x0 x1 x2 x3         of 5 over 4 frames, padding would waste 6 of 20 products
    tap 2:   x1 x2 x3  .

Half as many products in another basis (toom_cook.py), where the batch is large enough to pay for
the change. One product over gathered frames, for the few rows of a robot.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dipole.policy.core.derivatives import applied, first_derivative_only
from dipole.policy.core.toom_cook import Transform, transform_for

# Without gradients and up to so many rows, one product over gathered frames beats one per tap.
SMALL_BATCH = 4
# From so many rows on, fewer products are worth transforming the weights for: measured.
LARGE_BATCH = 48
# Channels up to which products are not worth rounding to bf16 under autocast: measured.
NARROW = 128
# Up to so many rows times matrices of at least so many channels either way, MKL is a quarter slower
# at the whole sum than at parts of so many terms, which it adds to what there is: measured.
FEW_ROWS, WIDE, TERMS = 128, 1024, 128


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Stride 1, as many frames as before: [T, B, C], [K, C, C'], [C'] -> [T, B, C']."""
    if is_small_inference(x, weight):
        return gathered_product(x, weight, bias)
    frames, rows, channels = x.shape
    # Fewer products add and subtract more, bf16 has no digits to spare for it: under autocast they
    # are of single precision, where what bf16 saves is less than what conversions cost.
    autocast = torch.is_autocast_enabled(x.device.type)
    if rows >= LARGE_BATCH and (not autocast or max(channels, weight.shape[2]) <= NARROW):
        found = transform_for(frames, len(weight), weight.dtype, x.device)
        if found is not None:
            with torch.autocast(x.device.type, enabled=False):
                return transformed_products(x.to(weight.dtype), weight, bias, found)
    return tap_products(x, weight, bias, convolution_taps(frames, len(weight)), frames)


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
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        taps: Sequence[Tap],
        frames_out: int,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.taps = taps
        rows = x.shape[1]
        flat = x.reshape(-1, x.shape[2])  # [T*B, C]
        shape = (frames_out * rows, weight.shape[2])  # [T'*B, C'], never the bias itself
        out = x.new_zeros(shape) if bias is None else bias.repeat(shape[0], 1)
        for tap in taps:
            source = flat.narrow(0, tap.in_start * rows, tap.length * rows)
            out.narrow(0, tap.out_start * rows, tap.length * rows).addmm_(source, weight[tap.k])
        return out.view(frames_out, rows, -1)

    @staticmethod
    @first_derivative_only
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
    x: Tensor, weight: Tensor, bias: Tensor | None, taps: Sequence[Tap], frames_out: int
) -> Tensor:
    """x: [T, B, C]; weight: [K, C, C']; bias: [C'], or none. Returns [frames_out, B, C']."""
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    out: Tensor = applied(_TapProducts, x, weight, bias, taps, frames_out)
    return out


def gathered_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of stride 1 as one product: [T, B, C], [K, C, C'], [C'] -> [T, B, C']."""
    frames, rows, _ = x.shape
    kernel_size, _, channels_out = weight.shape
    pad = kernel_size // 2
    windows = F.pad(x, (0, 0, 0, 0, pad, pad)).unfold(0, kernel_size, 1)  # [T, B, C, K]
    flat = windows.transpose(2, 3).reshape(frames * rows, -1)  # [T*B, K*C]
    out = F.linear(flat, weight.reshape(-1, channels_out).t(), bias)
    return out.view(frames, rows, channels_out)


class _TransformedProducts(torch.autograd.Function):
    """See `transformed_products`; every step is linear, and its own transpose leads back."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, basis: Transform
    ) -> Tensor:
        frames, rows, channels_in = x.shape
        n_points, channels_out = len(basis.weights), weight.shape[2]
        data = (basis.inputs @ x.reshape(frames, -1)).view(n_points, -1, channels_in)  # [P, nB, C]
        filters = (basis.weights @ weight.flatten(1)).view(n_points, -1, channels_out)  # [P, C, C']
        ctx.save_for_backward(data, filters)
        ctx.basis, ctx.frames = basis, frames
        products = _products(data, filters).view(basis.n_products, -1)  # [Pn, B*C']
        if bias is None:
            return torch.mm(basis.outputs, products).view(frames, rows, -1)
        return torch.addmm(bias.repeat(rows), basis.outputs, products).view(frames, rows, -1)

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        data, filters = ctx.saved_tensors
        basis: Transform = ctx.basis
        n_points, channels_in, channels_out = filters.shape
        grad = grads[0].reshape(ctx.frames, -1)  # [T, B*C']
        products = (basis.outputs.t() @ grad).view(n_points, -1, channels_out)  # [P, nB, C']
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            towards = torch.bmm(products, filters.transpose(1, 2)).view(basis.n_products, -1)
            grad_x = (basis.inputs.t() @ towards).view(ctx.frames, -1, channels_in)
        if ctx.needs_input_grad[1]:
            towards = torch.bmm(data.transpose(1, 2), products).view(n_points, -1)
            grad_weight = (basis.weights.t() @ towards).view(-1, channels_in, channels_out)
        grad_bias = grads[0].sum((0, 1)) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, None


def _products(data: Tensor, filters: Tensor) -> Tensor:
    """[P, N, C], [P, C, C'] -> [P, N, C']"""
    few = data.shape[1] <= FEW_ROWS and data.device.type == "cpu"
    if not few or min(filters.shape[1:]) < WIDE:
        return torch.bmm(data, filters)
    out = torch.bmm(data[:, :, :TERMS], filters[:, :TERMS])
    for start in range(TERMS, filters.shape[1], TERMS):
        terms = slice(start, start + TERMS)
        out.baddbmm_(data[:, :, terms], filters[:, terms])
    return out


def transformed_products(
    x: Tensor, weight: Tensor, bias: Tensor | None, basis: Transform
) -> Tensor:
    """A convolution of stride 1 in another basis: [T, B, C], [K, C, C'], [C'] -> [T, B, C'].

    basis: of the dtype of the others, and where they are.
    """
    out: Tensor = applied(_TransformedProducts, x, weight, bias, basis)
    return out


def is_small_inference(x: Tensor, weight: Tensor) -> bool:
    """Whether x [T, B, C] costs more in calls than in arithmetic, as on a robot: measured. Guidance
    may ask for the derivative by x there; that by the weights is training."""
    trains = torch.is_grad_enabled() and weight.requires_grad
    return x.shape[1] <= SMALL_BATCH and not trains
