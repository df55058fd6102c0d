"""The same network in operations that other runtimes know.

Our layers are written for training on a CPU (temporal.py): in-place products and derivatives of
their own, which no exporter can follow. Here a convolution is one product, of its taps side by
side: with so few frames runtimes compute that up to 2.7 times faster than their own convolutions
(docs/performance.md), and it needs no turning of axes.
"""

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipole.policy.denoisers.cpu_unet.temporal import Double, Halve, TemporalConv, TemporalNorm

Module = TypeVar("Module", bound=nn.Module)


class _Convolution(nn.Module):
    """[T, B, C] -> [T / stride, B, C'], with the weights [K, C, C'] of one of our layers."""

    def __init__(self, layer: TemporalConv) -> None:
        super().__init__()
        kernel_size, channels_in, channels_out = layer.weight.shape
        self.kernel_size, self.stride = kernel_size, 2 if isinstance(layer, Halve) else 1
        weight = layer.weight.reshape(kernel_size * channels_in, channels_out)
        self.weight, self.bias = _constant(weight.T), layer.bias

    def forward(self, x: Tensor) -> Tensor:
        around = self.kernel_size - 1
        padded = F.pad(x, (0, 0, 0, 0, around // 2, around // 2))
        taps = [padded[k : (k - around) or None : self.stride] for k in range(self.kernel_size)]
        return F.linear(torch.cat(taps, 2), self.weight, self.bias)


class _Doubling(nn.Module):
    """[T, B, C] -> [2 T, B, C']: of the four taps of `Double`, two reach each even frame, two each
    odd one."""

    def __init__(self, layer: Double) -> None:
        super().__init__()
        after, here, here_too, before = layer.weight
        self.even = _constant(torch.cat([here, before]).T)
        self.odd = _constant(torch.cat([here_too, after]).T)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        earlier, later = F.pad(x, (0, 0, 0, 0, 1, 0))[:-1], F.pad(x, (0, 0, 0, 0, 0, 1))[1:]
        even = F.linear(torch.cat([x, earlier], 2), self.even, self.bias)
        odd = F.linear(torch.cat([x, later], 2), self.odd, self.bias)
        return torch.stack([even, odd], 1).flatten(0, 1)


def _constant(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach().contiguous(), requires_grad=False)


class _GroupNormInSteps(nn.GroupNorm):
    """Over [N, C, ...]. OpenVINO 2026.4 knows no group norm inside of a loop, and outside it ends
    the process when it fuses one with the residual sum that its input also goes to; it does neither
    with these operations, in which it recognises a normalisation of its own."""

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0], self.num_groups, -1)  # [N, G, C/G ...]
        centred = grouped - grouped.mean(2, keepdim=True)
        variance = centred.square().mean(2, keepdim=True)
        normal = (centred * torch.rsqrt(variance + self.eps)).view_as(x)
        by_channel = (-1, *[1] * (x.dim() - 2))
        out: Tensor = normal * self.weight.view(by_channel) + self.bias.view(by_channel)
        return out


class _NormMish(_GroupNormInSteps):
    """Of [T, B, C], over all frames, and Mish."""

    def forward(self, x: Tensor) -> Tensor:
        normal: Tensor = super().forward(x.permute(1, 2, 0)).permute(2, 0, 1)
        return F.mish(normal)


def plain(network: Module) -> Module:
    """A copy of the network without gradients, in operations that runtimes know; its results are
    the same to rounding."""
    network = copy.deepcopy(network).requires_grad_(False)
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, Double):
                setattr(parent, name, _Doubling(layer))
            elif isinstance(layer, TemporalConv):
                setattr(parent, name, _Convolution(layer))
            elif isinstance(layer, TemporalNorm):
                setattr(parent, name, _same_norm(_NormMish, layer))
            elif type(layer) is nn.GroupNorm:
                setattr(parent, name, _same_norm(_GroupNormInSteps, layer))
    return network


def _same_norm(kind: type[nn.GroupNorm], layer: TemporalNorm | nn.GroupNorm) -> nn.Module:
    norm = kind(layer.num_groups, layer.num_channels, layer.eps)
    norm.weight, norm.bias = layer.weight, layer.bias
    return norm
