"""The numbers that a backbone is given: one conversion of the pixels that it sees, their memory.

Pictures are cut out while they are bytes, and only what is left becomes numbers. They lie in
channels_last memory, [N, h, w, C], as they are stored: convolutions of a processor are up to twice
as fast there in fp32 and three times in bf16 (convolutions/layer.py), those of a GPU's tensor cores
want it too, and whatever follows keeps it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST = 255  # of a byte


def unit_range(images: Tensor) -> Tensor:
    """Bytes or floats in [0, 1] -> floats in [0, 1]."""
    return images.float() / LARGEST if images.dtype == torch.uint8 else images


def together(images: Sequence[Tensor]) -> Tensor:
    """Pictures of one size, bytes or floats in [0, 1], one after another."""
    if len({each.dtype for each in images}) > 1:
        images = [unit_range(each) for each in images]
    return torch.cat(list(images))


def normalised(images: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """What a backbone computes with: [N, 3, h, w] in channels_last memory.

    images: uint8, or in [0, 1]. scale, offset: [3, 1, 1], by which those in [0, 1] are normalised,
    in the precision of the weights.

    Under autocast the numbers are rounded once, here.
    """
    if images.dtype == torch.uint8:
        scale = scale / LARGEST
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return torch.addcmul(offset, images.to(scale.dtype), scale)
    # A row at a time: the three numbers of a pixel are a short inner loop.
    width = images.shape[3]
    rows = images.permute(0, 2, 3, 1).flatten(2).to(scale.dtype)  # [N, h, w * 3]
    scaled = torch.addcmul(offset.flatten().repeat(width), rows, scale.flatten().repeat(width))
    device = images.device.type
    if torch.is_autocast_enabled(device):
        scaled = scaled.to(torch.get_autocast_dtype(device))
    return scaled.view(*scaled.shape[:2], width, 3).permute(0, 3, 1, 2)
