"""The U-Net for other runtimes: the reference's modules in operations that they compute fastest.

A convolution is one product, of its taps side by side: with so few frames runtimes compute that up
to 2.7 times faster than their own convolutions (docs/performance.md).
"""

import copy
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipole.policy.denoisers.cpu_unet.time_major import Film, TimeMajorUnet, modulated
from dipole.policy.denoisers.cpu_unet.weights import Convolution, taps
from dipole.policy.denoisers.unet_layers import ConvNormAct, GroupNormMish

if TYPE_CHECKING:
    from dipole.policy.denoisers.unet1d import ConditionalUnet1D

Module = TypeVar("Module", bound=nn.Module)


def plain(network: Module) -> Module:
    """A copy of the network without gradients, in operations that runtimes know; its results are
    the same to rounding."""
    from dipole.policy.denoisers.unet1d import ConditionalUnet1D

    network = copy.deepcopy(network).requires_grad_(False)
    for parent in list(network.modules()):
        if isinstance(parent, ConditionalUnet1D):
            parent.fast_path = OneProductPerConvolution()
        for name, layer in parent.named_children():
            if isinstance(layer, nn.GroupNorm):
                setattr(parent, name, _in_steps(layer))
    return network


class OneProductPerConvolution(TimeMajorUnet):
    """Convolutions as products of their taps side by side, each a view of the weights."""

    def serves(self, unet: "ConditionalUnet1D", x: Tensor) -> bool:
        return True

    def convolution(self, layer: Convolution, x: Tensor) -> Tensor:
        return _product_of_taps(layer, x, stride=1)

    def downsample(self, layer: Convolution, x: Tensor) -> Tensor:
        return _product_of_taps(layer, x, stride=2)

    def upsample(self, layer: Convolution, x: Tensor) -> Tensor:
        """Of the four taps two reach each even frame, two each odd one."""
        next_tap, first, second, previous = taps(layer)
        earlier, later = F.pad(x, (0, 0, 0, 0, 1, 0))[:-1], F.pad(x, (0, 0, 0, 0, 0, 1))[1:]
        even = F.linear(torch.cat([x, earlier], 2), torch.cat([first, previous]).T, layer.bias)
        odd = F.linear(torch.cat([x, later], 2), torch.cat([second, next_tap]).T, layer.bias)
        return torch.stack([even, odd], 1).flatten(0, 1)

    def conv_norm_act(self, layer: ConvNormAct, x: Tensor, film: Film | None = None) -> Tensor:
        conv, norm = layer
        assert isinstance(conv, nn.Conv1d)
        out = norm(self.convolution(conv, x).permute(1, 2, 0)).permute(2, 0, 1)
        return modulated(out, film)


def _product_of_taps(layer: Convolution, x: Tensor, stride: int) -> Tensor:
    weight = taps(layer)
    around = len(weight) - 1
    padded = F.pad(x, (0, 0, 0, 0, around // 2, around // 2))
    windows = [padded[k : (k - around) or None : stride] for k in range(len(weight))]
    return F.linear(torch.cat(windows, 2), weight.flatten(0, 1).T, layer.bias)


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


class _GroupNormInStepsMish(_GroupNormInSteps):
    def forward(self, x: Tensor) -> Tensor:
        return F.mish(super().forward(x))


def _in_steps(layer: nn.GroupNorm) -> nn.GroupNorm:
    kind = _GroupNormInStepsMish if isinstance(layer, GroupNormMish) else _GroupNormInSteps
    norm = kind(layer.num_groups, layer.num_channels, layer.eps)
    norm.weight, norm.bias = layer.weight, layer.bias
    return norm
