"""A convolution over pictures that computes in the way that is measured to be fastest.

With pictures in channels_last memory, torch's own convolution is near the processor's rate where
maps are large, and far from it where they are small and channels many. Milliseconds forward and
backward, one thread of a processor with AMX, 128 pictures; torch's own in its own memory, in
channels_last, and in the way that is chosen here:

                                     fp32: torch  last  chosen         bf16: last  chosen
    64 -> 64, 3x3 on 21x21                    91    72     72                  18     18
    128 -> 128, 3x3 on 11x11                  82    74     74                  19     19
    256 -> 256, 3x3 on 6x6                   102   106     78 transformed      35     35
    512 -> 512, 3x3 on 3x3                   136   248     50 transformed     134     33 gathered
    256 -> 512, 3x3 on 6x6, stride 2         105   132     65 gathered         77     22 gathered
"""

import torch
from torch import Tensor, nn

from dipole.policy.core.derivatives import needs_plain_operations
from dipole.policy.encoders.cameras.convolutions.gathered import (
    gathered_product,
    pointwise_product,
)
from dipole.policy.encoders.cameras.convolutions.transformed import transformed_convolution

SMALL_MAP = 16  # cells of a map up to which one product over gathered cells wins
TRANSFORMED_SIDE = 6  # of a map up to which fewer products in another basis win
MANY_CHANNELS = 128  # on both sides, from which on they do
PRECISE = (torch.float32, torch.float64)  # fewer products cost digits, which others do not have
FEW_PICTURES = 8  # below which preparing the weights costs more than products save


class PictureConv2d(nn.Conv2d):
    """nn.Conv2d without bias, groups or dilation, by whichever way is fastest: the same numbers to
    rounding, and the same parameters.

    Ways other than torch's serve on a CPU. What torch.compile, torch.export and tracers follow, and
    what needs derivatives beyond the first, backwards, is torch's own.
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    def __init__(
        self, channels_in: int, channels_out: int, kernel_size: int, stride: int, padding: int
    ) -> None:
        super().__init__(channels_in, channels_out, kernel_size, stride, padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, C', h', w']"""
        if not _serves(x):
            return super().forward(x)
        if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:  # as torch's autocast
            x = x.to(torch.get_autocast_dtype("cpu"))
        stride, padding = self.stride[0], self.padding[0]
        if self.kernel_size == (1, 1) and stride > 1:
            return pointwise_product(x, self.weight, stride)
        if self._transforms(x):
            return transformed_convolution(x, self.weight)
        if self._gathers(x):
            return gathered_product(x, self.weight, stride, padding)
        return super().forward(x)

    def _transforms(self, x: Tensor) -> bool:
        return (
            self.kernel_size == (3, 3)
            and self.stride == self.padding == (1, 1)
            and x.dtype in PRECISE
            and 1 < min(x.shape[2:]) <= max(x.shape[2:]) <= TRANSFORMED_SIDE
            and min(self.in_channels, self.out_channels) >= MANY_CHANNELS
        )

    def _gathers(self, x: Tensor) -> bool:
        stride, padding, kernel = self.stride[0], self.padding[0], self.kernel_size[0]
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in x.shape[2:])
        return 0 < height * width <= SMALL_MAP and self.in_channels >= MANY_CHANNELS


def _serves(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.shape[0] >= FEW_PICTURES
        and not needs_plain_operations()
        and not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
    )
