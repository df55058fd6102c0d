"""3x3 convolutions over small maps in fewer matrix products (Toom-Cook; Winograd, 1980).

The changes of basis of the U-Net's convolutions over time (core/toom_cook.py), along
both axes of a picture (Lavin and Gray, 2016): a map of 3x3 takes 25 products of channels instead of
81, one of 6x6 100 instead of 324. Cells come first in memory meanwhile, [h * w, N, C].

Rounding: a few times that of the definition, 1e-6 to 1e-5 of the outputs' size in fp32.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from dipole.policy.core.derivatives import applied, first_derivative_only
from dipole.policy.core.toom_cook import Transform, short_tiles

KERNEL = 3


def transformed_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """Stride 1, padding 1: [N, C, h, w], [C', C, 3, 3] -> [N, C', h, w] in channels_last memory.

    x and weight are of one dtype, single or double precision.
    """
    basis = transform_2d(x.shape[2], x.shape[3], x.dtype)
    out: Tensor = applied(_TransformedConvolution, x, weight, basis)
    return out


@cache
def transform_2d(height: int, width: int, dtype: torch.dtype) -> Transform:
    """Of maps of this size, at most 8 each way: points of both axes, then tiles of both."""
    down, across = (short_tiles(side, KERNEL) for side in (height, width))
    points = [len(each.weights) for each in (down, across)]
    inputs = torch.einsum(
        "pit,qjs->pqijts",
        down.inputs.view(points[0], -1, height),
        across.inputs.view(points[1], -1, width),
    )
    weights = torch.einsum("pk,ql->pqkl", down.weights, across.weights)
    outputs = torch.einsum(
        "tpi,sqj->tspqij",
        down.outputs.view(height, points[0], -1),
        across.outputs.view(width, points[1], -1),
    )
    return Transform(
        inputs.reshape(-1, height * width),
        weights.reshape(-1, KERNEL * KERNEL),
        outputs.reshape(height * width, -1),
    ).to(dtype, torch.device("cpu"))


class _TransformedConvolution(torch.autograd.Function):
    """See `transformed_convolution`; every step is linear, and its own transpose leads back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, basis: Transform) -> Tensor:
        rows, channels, height, width = x.shape
        n_points = len(basis.weights)
        data = (basis.inputs @ _by_cell(x)).view(n_points, -1, channels)  # [P, nN, C]
        filters = basis.weights @ weight.reshape(-1, KERNEL * KERNEL).t()
        filters = filters.view(n_points, -1, channels)  # [P, C', C]
        ctx.save_for_backward(data, filters)
        ctx.basis, ctx.size = basis, (height, width)
        products = torch.bmm(data, filters.transpose(1, 2)).view(basis.n_products, -1)
        return _by_picture(basis.outputs @ products, rows, (height, width))

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        data, filters = ctx.saved_tensors
        basis: Transform = ctx.basis
        rows, channels_out = grads[0].shape[:2]
        n_points, _, channels = filters.shape
        products = (basis.outputs.t() @ _by_cell(grads[0])).view(n_points, -1, channels_out)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            towards = torch.bmm(products, filters).view(basis.n_products, -1)
            grad_x = _by_picture(basis.inputs.t() @ towards, rows, ctx.size)
        if ctx.needs_input_grad[1]:
            towards = torch.bmm(products.transpose(1, 2), data).view(n_points, -1)
            shape = (channels_out, channels, KERNEL, KERNEL)
            grad_weight = (towards.t() @ basis.weights).view(shape)
        return grad_x, grad_weight, None


def _by_cell(x: Tensor) -> Tensor:
    """[N, C, h, w] -> [h * w, N * C]"""
    return x.permute(2, 3, 0, 1).reshape(x.shape[2] * x.shape[3], -1)


def _by_picture(cells: Tensor, rows: int, size: tuple[int, int]) -> Tensor:
    """[h * w, N * C] -> [N, C, h, w] in channels_last memory."""
    found = cells.view(*size, rows, -1).permute(2, 3, 0, 1)
    return found.contiguous(memory_format=torch.channels_last)
