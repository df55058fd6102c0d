"""Changes of colour as one affine map of a pixel: brightness, contrast, saturation and hue.

Each of the four is affine in (red, green, blue), and so is what they are together: a picture is
read and written once, whatever is changed. Colours are clipped to [0, 1] once, at the end.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in a grey picture (ITU-R BT.601)
# A quarter turn about the grey axis that keeps a picture's luma: that of the plane of I and Q in
# YIQ (NTSC, 1953), in red, green and blue.
QUARTER_TURN = (
    (0.16773971, 0.32930952, -0.49704924),
    (-0.32811313, 0.03546699, 0.29264614),
    (1.24954590, -1.04633920, -0.20320670),
)
BLOCKS = (4, 2, 1)  # pixels that one product takes at a time where channels come last in memory


def mean_colours(images: Tensor, rows: int) -> Tensor:
    """[N, 3, h, w] -> the mean of each row's pictures, [rows, 3]."""
    of_pictures: Tensor = images.mean((2, 3))  # [N, 3]
    return of_pictures.view(rows, -1, images.shape[1]).mean(1)


def change_colours(
    images: Tensor,
    mean: Tensor | None,
    rows: int,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> tuple[Tensor, Tensor | None]:
    """images: [N, 3, h, w] in [0, 1] -> the same in other colours, and their mean colours.

    In this order: times a factor; away from the grey of the row's mean, or towards it; away from
    each pixel's grey, or towards it; turned about the grey axis. Strengths as in `Augmentation`.

    mean: [rows, 3], see `mean_colours`; needed for contrast.
    """
    device = images.device

    def factors(strength: float) -> Tensor:
        """[rows, 1], evenly between 1 - s and 1 + s."""
        return 1 + strength * (2 * torch.rand(rows, device=device) - 1)[:, None]

    identity = torch.eye(3, device=device)
    grey = _numbers(LUMA, device).expand(3, 3)  # a pixel -> its grey, three times
    matrix, offset = identity.expand(rows, 3, 3), torch.zeros(rows, 3, device=device)
    if brightness:
        matrix = matrix * factors(brightness)[..., None]
    if contrast:
        assert mean is not None
        factor = factors(contrast)
        mean_grey = _mapped(matrix, offset, mean.float()) @ grey.T
        matrix = factor[..., None] * matrix
        offset = factor * offset + (1 - factor) * mean_grey
    for change in (
        torch.lerp(grey, identity, factors(saturation)[..., None]) if saturation else None,
        _turns(hue, rows, grey) if hue else None,
    ):
        if change is not None:
            matrix, offset = change @ matrix, (change @ offset[..., None])[..., 0]
    changed = apply_map(images, matrix, offset).clamp_(0, 1)
    return changed, None if mean is None else _mapped(matrix, offset, mean.float()).clamp(0, 1)


def apply_map(images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """A new tensor [N, 3, h, w] in the same memory layout, of matrix @ colour + offset.

    matrix: [rows, 3, 3], offset: [rows, 3], each for the N / rows pictures of a row, in order.
    """
    count, channels, height, width = images.shape
    matrix, offset = (
        each.to(images.dtype).repeat_interleave(count // len(each), 0) for each in (matrix, offset)
    )
    if not images.is_contiguous(memory_format=torch.channels_last):
        flat = images.flatten(2)  # [N, 3, h w]
        return torch.baddbmm(offset[..., None], matrix, flat).view(images.shape)
    # Products of 3 numbers are slow: those of several pixels beside each other are not.
    block = next(size for size in BLOCKS if height * width % size == 0)
    blocks = images.permute(0, 2, 3, 1).reshape(count, -1, block * channels)
    apart = torch.eye(block, device=images.device, dtype=images.dtype)
    several = torch.einsum("ab,nij->najbi", apart, matrix).reshape(count, *[3 * block] * 2)
    mapped = torch.baddbmm(offset.repeat(1, block)[:, None], blocks, several)
    return mapped.view(count, height, width, channels).permute(0, 3, 1, 2)


def _turns(hue: float, rows: int, grey: Tensor) -> Tensor:
    """Turns about the grey axis, [rows, 3, 3], by up to `hue` of the circle either way."""
    device = grey.device
    angle = 2 * math.pi * hue * (2 * torch.rand(rows, device=device) - 1)[:, None, None]
    quarter = torch.stack([_numbers(row, device) for row in QUARTER_TURN])
    chroma = torch.eye(3, device=device) - grey
    return grey + angle.cos() * chroma + angle.sin() * quarter


def _mapped(matrix: Tensor, offset: Tensor, colours: Tensor) -> Tensor:
    """matrix @ colour + offset for colours [rows, 3]."""
    return (matrix @ colours[..., None])[..., 0] + offset


def _numbers(values: Sequence[float], device: torch.device) -> Tensor:
    """[len(values)]; made on the device, as a tensor of the host's would have to be copied."""
    return torch.cat([torch.full((1,), value, device=device) for value in values])
