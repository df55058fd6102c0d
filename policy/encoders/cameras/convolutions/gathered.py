"""Convolutions as one product over gathered cells: for small maps of many channels."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dipole.policy.core.derivatives import applied, first_derivative_only


def gathered_product(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """[N, C, h, w], [C', C, k, k] -> [N, C', h', w'] in channels_last memory."""
    cells = applied(_Gather, x, weight.shape[2], stride, padding)  # [N, h', w', k * k * C]
    matrix = weight.permute(0, 2, 3, 1).flatten(1)  # [C', k * k * C]
    return F.linear(cells, matrix.to(cells.dtype)).permute(0, 3, 1, 2)


def pointwise_product(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """A convolution of kernel 1: [N, C, h, w], [C', C, 1, 1] -> [N, C', h', w'] likewise."""
    cells = x.permute(0, 2, 3, 1)[:, ::stride, ::stride]
    return F.linear(cells, weight.flatten(1).to(cells.dtype)).permute(0, 3, 1, 2)


class _Gather(torch.autograd.Function):
    """[N, C, h, w] -> [N, h', w', k * k * C]: what each output cell of a convolution covers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        ctx.given = x.shape, kernel, stride, padding
        cells = x.permute(0, 2, 3, 1)
        padded = F.pad(cells, (0, 0, padding, padding, padding, padding))
        windows = padded.unfold(1, kernel, stride).unfold(2, kernel, stride)  # [N, h', w', C, k, k]
        return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (rows, channels, height, width), kernel, stride, padding = ctx.given
        by_tap = grads[0].view(*grads[0].shape[:3], kernel, kernel, channels)
        _, out_height, out_width = grads[0].shape[:3]
        grad = by_tap.new_zeros(rows, height + 2 * padding, width + 2 * padding, channels)
        for i in range(kernel):
            for j in range(kernel):
                down, right = i + stride * out_height, j + stride * out_width
                grad[:, i:down:stride, j:right:stride].add_(by_tap[:, :, :, i, j])
        inner = grad[:, padding : padding + height, padding : padding + width]
        return inner.permute(0, 3, 1, 2), None, None, None
