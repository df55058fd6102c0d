"""Residual networks without BatchNorm, of any width: 11,176,512 parameters as published.

ResNet-18 (He et al., 2016) with GroupNorm of 16 channels a group instead of BatchNorm, whose
running statistics do not go with averaged weights (Chi et al., 2023, section III.B).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import BACKBONES
from dipole.policy.encoders.cameras.backbones.backbone import Backbone, BackboneOutput, halved
from dipole.policy.encoders.cameras.convolutions.group_norm import PictureGroupNorm
from dipole.policy.encoders.cameras.convolutions.layer import PictureConv2d

CHANNELS_PER_GROUP = 16
# The published range: [0, 1] -> [-1, 1].
MEAN = STD = (0.5, 0.5, 0.5)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with 16 channels a group."""
    if channels % CHANNELS_PER_GROUP:
        raise ConfigError(
            f"a picture network of width {channels}: widths (policy.encoder.backbone.widths) are "
            f"multiples of {CHANNELS_PER_GROUP}, the channels of a group of GroupNorm"
        )
    return PictureGroupNorm(channels // CHANNELS_PER_GROUP, channels)


def _conv(channels_in: int, channels_out: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    padding = kernel_size // 2
    conv = PictureConv2d(channels_in, channels_out, kernel_size, stride, padding)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input goes: [N, C, h, w] -> [N, C', h/s, w/s]."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(channels_in, channels_out, 3, stride)
        self.first_norm = group_norm(channels_out)
        self.second = _conv(channels_out, channels_out, 3)
        self.second_norm = group_norm(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            same_size = _conv(channels_in, channels_out, 1, stride)
            self.shortcut = nn.Sequential(same_size, group_norm(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        # In place: a norm's gradient needs its input alone, and each pass over maps costs memory.
        h = F.relu(self.first_norm(self.first(x)), inplace=True)
        return F.relu(self.second_norm(self.second(h)).add_(self.shortcut(x)), inplace=True)


@BACKBONES.add("resnet")
class ResNet(Backbone):
    """Images [N, 3, h, w], normalised -> features [N, widths[-1], h', w'].

    widths, blocks: channels and residual blocks of each stage; every stage but the first halves the
    resolution. stem: "pooled", as published, a 7x7 convolution and a pooling of stride 2 each, or
    "patches", one 4x4 convolution of stride 4, a fifth of the cost. Both leave a quarter.
    """

    mean, std = MEAN, STD

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512),
        blocks: Sequence[int] = (2, 2, 2, 2),
        stem: str = "pooled",
    ) -> None:
        super().__init__()
        if not widths or len(widths) != len(blocks) or min(blocks) < 1:
            raise ConfigError(
                f"widths {list(widths)} and blocks {list(blocks)}: one of each for every stage"
            )
        self.channels, self.stem_name = widths[-1], stem
        self.stem = _stem(stem, widths[0])
        stages = [_stage(widths[0], widths[0], blocks[0], stride=1)]
        for (narrow, wide), count in zip(pairwise(widths), blocks[1:], strict=True):
            stages.append(_stage(narrow, wide, count, stride=2))
        self.stages = nn.Sequential(*stages)

    def map_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Of whole patches, or of as many strides of 2, each of which rounds up."""
        patches, halvings = self.stem_name == "patches", len(self.stages) - 1
        height, width = (side // 4 if patches else halved(side, 2) for side in size)
        return halved(height, halvings), halved(width, halvings)

    def sharding_units(self) -> Sequence[nn.Module]:
        return [module for module in self.stages.modules() if isinstance(module, BasicBlock)]

    def forward(self, images: Tensor) -> BackboneOutput:
        return BackboneOutput(self.stages(self.stem(images)))


@BACKBONES.add("resnet18")
def resnet18() -> ResNet:
    """The published one."""
    return ResNet()


def _stage(channels_in: int, channels_out: int, count: int, stride: int) -> nn.Sequential:
    more = [BasicBlock(channels_out, channels_out, 1) for _ in range(count - 1)]
    return nn.Sequential(BasicBlock(channels_in, channels_out, stride), *more)


def _stem(name: str, width: int) -> nn.Sequential:
    if name == "pooled":
        first, pooling = _conv(3, width, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1)
        # The largest is the same before a ReLU as after it, which then has a quarter to do.
        return nn.Sequential(first, group_norm(width), pooling, nn.ReLU(inplace=True))
    if name == "patches":
        first = nn.Conv2d(3, width, kernel_size=4, stride=4, bias=False)
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
        return nn.Sequential(first, group_norm(width), nn.ReLU(inplace=True))
    raise ConfigError(f"the stem is {name!r}: choose pooled or patches")
