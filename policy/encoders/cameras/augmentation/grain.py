"""Pictures less sharp, or with a sensor's noise."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dipole.policy.core.row_draws import same_for_all_rows

FIELD = 2  # sides of the noise that is drawn, in pictures: four pictures' worth for all of them


def soften(images: Tensor, most: float, rows: int) -> Tensor:
    """images: [N, 3, h, w] -> mixed with their average over 3x3 pixels, weighed (1, 2, 1) both
    ways, by a share drawn for each row between 0 and `most`."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., :-2] + padded[..., 2:]).add_(padded[..., 1:-1], alpha=2)
    both = (across[..., :-2, :] + across[..., 2:, :]).add_(across[..., 1:-1, :], alpha=2)
    share = _drawn(most, rows, images)
    return torch.lerp(images, both.mul_(1 / 16), share)


def add_noise(images: Tensor, most: float, rows: int) -> Tensor:
    """images: [N, 3, h, w] in [0, 1] -> with normal noise, in [0, 1].

    Its standard deviation is drawn for each row, between 0 and `most`. Each picture has a part of
    one large field of noise, at a place of its own: drawing one for each would take longer than
    all other augmentations together.
    """
    count, channels, height, width = images.shape
    with same_for_all_rows():
        field = torch.randn(channels, FIELD * height, FIELD * width, device=images.device)
    parts = field.unfold(1, height, 1).unfold(2, width, 1)  # a view [C, y, x, h, w]
    top, left = (
        torch.randint((FIELD - 1) * side + 1, (count,), device=images.device)
        for side in (height, width)
    )
    noise = parts[:, top, left].transpose(0, 1).to(images.dtype)  # [N, C, h, w]
    return torch.addcmul(images, noise, _drawn(most, rows, images)).clamp_(0, 1)


def _drawn(most: float, rows: int, images: Tensor) -> Tensor:
    """A number between 0 and `most` for each row, as [N, 1, 1, 1]."""
    drawn = most * torch.rand(rows, device=images.device).to(images.dtype)
    return drawn.repeat_interleave(len(images) // rows)[:, None, None, None]
