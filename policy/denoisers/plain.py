"""The same network in layers that other runtimes know.

Our layers are written for training on a CPU (temporal.py): in-place products and derivatives of
their own, which no exporter can follow. Here they become torch's own convolutions, with the same
weights and in the same places.
"""

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipole.policy.denoisers.temporal import Double, Halve, TemporalConv, TemporalNorm

Module = TypeVar("Module", bound=nn.Module)


class _TimeMajor(nn.Module):
    """One of torch's layers, which takes [B, C, T], over [T, B, C]. Runtimes drop the turning."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.permute(1, 2, 0)).permute(2, 0, 1)
        return out


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


class _GroupNormMish(_GroupNormInSteps):
    def forward(self, x: Tensor) -> Tensor:
        return F.mish(super().forward(x))


def plain(network: Module) -> Module:
    """A copy of the network without gradients, in torch's own layers; its results are the same to
    rounding."""
    network = copy.deepcopy(network).requires_grad_(False)
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, (TemporalConv, TemporalNorm)):
                setattr(parent, name, _TimeMajor(_plain_layer(layer)))
            elif type(layer) is nn.GroupNorm:
                setattr(parent, name, _in_steps(layer))
    return network


def _in_steps(layer: nn.GroupNorm) -> nn.Module:
    norm = _GroupNormInSteps(layer.num_groups, layer.num_channels, layer.eps)
    norm.weight, norm.bias = layer.weight, layer.bias
    return norm


def _plain_layer(layer: TemporalConv | TemporalNorm) -> nn.Module:
    """With parameters laid out as torch lays them out: constants of an exported graph."""
    if isinstance(layer, TemporalNorm):
        norm = _GroupNormMish(layer.num_groups, layer.num_channels, layer.eps)
        norm.weight, norm.bias = layer.weight, layer.bias
        return norm
    kernel_size, channels_in, channels_out = layer.weight.shape
    conv: nn.Conv1d | nn.ConvTranspose1d
    if isinstance(layer, Double):
        conv = nn.ConvTranspose1d(channels_in, channels_out, kernel_size, stride=2, padding=1)
        weight = layer.weight.permute(1, 2, 0)  # [C, C', K]
    else:
        stride = 2 if isinstance(layer, Halve) else 1
        padding = kernel_size // 2
        conv = nn.Conv1d(channels_in, channels_out, kernel_size, stride=stride, padding=padding)
        weight = layer.weight.permute(2, 1, 0)  # [C', C, K]
    conv.weight, conv.bias = nn.Parameter(weight.contiguous(), False), layer.bias
    return conv
