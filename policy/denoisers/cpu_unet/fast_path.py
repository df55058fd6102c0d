"""The U-Net's fast path on a CPU, and its switch.

    use_fast_path(policy, False)     # the modules of the reference from now on

Where it serves, `ConditionalUnet1D` computes the same numbers to rounding in half the time of
torch's convolutions or less, in training; see docs/performance.md. Elsewhere the reference does.

The fast path reads the weights of convolutions and norms, and does not call these modules: switch
it off where hooks on them are to run, or others have taken their place (adapters, for example).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dipole.policy.core.derivatives import needs_plain_operations
from dipole.policy.denoisers.cpu_unet.norm_mish import EAGER, NormKernels, group_norm_mish
from dipole.policy.denoisers.cpu_unet.temporal_conv import (
    convolution,
    doubling_taps,
    halving_taps,
    tap_products,
)
from dipole.policy.denoisers.cpu_unet.time_major import Film, TimeMajorUnet, modulated
from dipole.policy.denoisers.cpu_unet.weights import Convolution, taps
from dipole.policy.denoisers.unet_layers import ConvNormAct

if TYPE_CHECKING:
    from dipole.policy.denoisers.unet1d import ConditionalUnet1D

PRECISE = (torch.float32, torch.float64)  # fewer products cost digits, which others do not have


def use_fast_path(module: nn.Module, on: bool = True) -> None:
    """Let the U-Nets in a module take the fast path where it serves, as they do unless told
    otherwise, or always compute with the modules of the reference."""
    from dipole.policy.denoisers.unet1d import ConditionalUnet1D

    for each in module.modules():
        if isinstance(each, ConditionalUnet1D):
            each.fast_path = CpuFastPath() if on else None


@dataclass(frozen=True)
class CpuFastPath(TimeMajorUnet):
    """For weights in single or double precision on a CPU.

    It has first derivatives, backwards: what needs others is left to the reference, and so is what
    torch.compile and torch.export follow.

    kernels: How norms compute in training.
    """

    kernels: NormKernels = EAGER

    def serves(self, unet: "ConditionalUnet1D", x: Tensor) -> bool:
        return (
            x.device.type == "cpu"
            and unet.time_embedding.mlp[0].weight.dtype in PRECISE
            and not needs_plain_operations()
            and not (torch._C._get_tracing_state() and torch.is_grad_enabled())
            and not torch.compiler.is_compiling()
            and x.shape[0] > 0
        )

    def convolution(self, layer: Convolution, x: Tensor) -> Tensor:
        return convolution(x, taps(layer), layer.bias)

    def downsample(self, layer: Convolution, x: Tensor) -> Tensor:
        frames = x.shape[0]
        pairs = x.reshape(frames // 2, 2, *x.shape[1:])
        apart = pairs.transpose(0, 1).flatten(0, 1)  # even frames, then odd ones
        return tap_products(apart, taps(layer), layer.bias, halving_taps(frames), frames // 2)

    def upsample(self, layer: Convolution, x: Tensor) -> Tensor:
        frames = x.shape[0]
        apart = tap_products(x, taps(layer), layer.bias, doubling_taps(frames), 2 * frames)
        return apart.view(2, frames, *x.shape[1:]).transpose(0, 1).flatten(0, 1)  # interleaved

    def conv_norm_act(self, layer: ConvNormAct, x: Tensor, film: Film | None = None) -> Tensor:
        """Training leaves the bias and a row's FiLM to the norm, which passes over all numbers
        anyway."""
        conv, norm = layer
        assert isinstance(conv, nn.Conv1d)
        assert isinstance(norm, nn.GroupNorm)
        if not torch.is_grad_enabled():
            return modulated(group_norm_mish(norm, self.convolution(conv, x)), film)
        out, shift = convolution(x, taps(conv), None), conv.bias
        if film is not None and film[0].dim() == 3:
            return modulated(group_norm_mish(norm, out, shift, None, self.kernels), film)
        return group_norm_mish(norm, out, shift, film, self.kernels)
