"""Pictures in another size: averages of the pixels that each new one covers; of depth the nearest.

Pictures are bytes, and on a CPU they stay bytes: what is read and written is a quarter of floats,
and torch's antialiased kernel for bytes needs a tenth of the time, in channels_last memory, as
stored pictures are once their axes are permuted. It multiplies by weights of 16 bits, columns
first, and rounds to a byte after columns and after rows.

Who computes                            what comes out
a CPU, in training and in inference     bytes, rounded twice
an exported graph                       floats, whole numbers: the same ones, by two products
any other device                        floats in [0, 255], not rounded

So all agree to within one grey level, and a CPU and what was exported for it to the level itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dipole.data.transforms.nearest_line import nearest_line

Size = tuple[int, int]  # height, width
TOO_LARGE = 2**15  # for a weight of torch's kernel for bytes, a signed number of 16 bits
MOST_BITS = 22  # of its fraction


def resize(images: Tensor, size: Size) -> Tensor:
    """[N, C, H, W] -> [N, C, h, w], bilinear and antialiased, as Pillow does.

    images: uint8, or float. What comes out is uint8 for uint8 on a CPU, and else float on the same
    scale; see the head of this file. A width of one pixel is computed in floats everywhere: of one
    channel torch's kernel for bytes (2.13) gets it wrong. In an exported graph it is two matrix
    products: few runtimes know how to antialias.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return _products(images, size)
    if images.dtype == torch.uint8 and (images.device.type != "cpu" or size[1] == 1):
        images = images.float()
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def resize_depth(depth: Tensor, size: Size) -> Tensor:
    """[N, H, W, C] -> [N, h, w, C] of the nearest pixels, as `dipole data convert --resize` stores
    them: a mean of two distances is one at which nothing is."""
    for axis, want in enumerate(size, start=1):
        lines = nearest_line(torch.arange(want, device=depth.device), int(depth.shape[axis]), want)
        depth = depth.index_select(axis, lines)
    return depth


def resizing_weights(have: int, want: int) -> Tensor:
    """[want, have]: how much of each old line is in each new one; rows sum to 1.

    Weights fall off linearly from the new line's centre, over as many old lines as it covers.
    """
    return _weights(have, want).float()


def resizing_weights_of_bytes(have: int, want: int) -> Tensor:
    """The same, rounded as torch's kernel for bytes has them: whole numbers below 2^15 divided by
    the largest power of two for which they are that."""
    weights = _weights(have, want)
    largest, bits = float(weights.max()), 0
    while bits < MOST_BITS and int(largest * (2 << bits) + 0.5) < TOO_LARGE:
        bits += 1
    one = 1 << bits
    return (torch.floor(weights * one + 0.5) / one).float()


def _products(images: Tensor, size: Size) -> Tensor:
    bytes_come = images.dtype == torch.uint8
    weights = resizing_weights_of_bytes if bytes_come else resizing_weights
    values = images.float() if bytes_come else images
    rows, columns = (
        weights(int(have), want).to(values)
        for have, want in zip(images.shape[2:], size, strict=True)
    )
    if not bytes_come:
        return rows @ values @ columns.T
    return _whole(rows @ _whole(values @ columns.T))


def _whole(values: Tensor) -> Tensor:
    """The nearest whole numbers, upwards from the middle between two, as the kernel rounds."""
    return torch.floor(values + 0.5)


def _weights(have: int, want: int) -> Tensor:
    """`resizing_weights` in double precision."""
    scale = have / want
    reach = max(scale, 1.0)
    centres = (torch.arange(want, dtype=torch.float64) + 0.5) * scale
    lines = torch.arange(have, dtype=torch.float64) + 0.5
    weights = (1 - (lines - centres[:, None]).abs() / reach).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)
