"""GroupNorm that leaves pictures in the memory in which they lie.

Off a CPU torch's own copies what lies in channels_last into plain memory, and all that follows it
lies there too, where the convolutions of tensor cores turn it around each time.
"""

import torch
from torch import Tensor, nn


class PictureGroupNorm(nn.GroupNorm):
    """nn.GroupNorm, the same numbers to rounding and the same parameters, in channels_last memory
    where that is what it is given.

    On a CPU, and in what torch.compile, torch.export and tracers follow, it is torch's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, C, h, w]; floats under autocast, as of torch's own."""
        plain = x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last)
        followed = torch.compiler.is_compiling() or torch._C._get_tracing_state()
        if plain or followed or x.device.type == "cpu":
            return super().forward(x)
        return in_channels_last(x, self.num_groups, self.weight, self.bias, self.eps)


def in_channels_last(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """What GroupNorm makes of x [N, C, h, w], channels_last; weight, bias: [C]."""
    count, channels, height, width = x.shape
    cells = x.permute(0, 2, 3, 1).view(count, height * width, groups, channels // groups)
    cells = cells.to(torch.promote_types(x.dtype, weight.dtype))
    variance, mean = torch.var_mean(cells, dim=(1, 3), correction=0, keepdim=True)
    scale = weight.view(groups, -1) * (variance + eps).rsqrt()  # [N, 1, groups, C / groups]
    offset = bias.view(groups, -1) - mean * scale
    scaled = torch.addcmul(offset, cells, scale)
    return scaled.view(count, height, width, channels).permute(0, 3, 1, 2)
