"""Resizing with an average over the pixels that each new one covers."""

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]  # height, width


def resize(images: Tensor, size: Size) -> Tensor:
    """[N, 3, H, W] float -> [N, 3, h, w], bilinear and antialiased, as Pillow does.

    In an exported graph it is two matrix products, the same to rounding: few runtimes know how to
    antialias.
    """
    if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
    rows, columns = (
        resizing_weights(int(have), want).to(images)
        for have, want in zip(images.shape[2:], size, strict=True)
    )
    return rows @ images @ columns.T


def resizing_weights(have: int, want: int) -> Tensor:
    """[want, have]: how much of each old line is in each new one; rows sum to 1.

    Weights fall off linearly from the new line's centre, over as many old lines as it covers.
    """
    scale = have / want
    reach = max(scale, 1.0)
    centres = (torch.arange(want, dtype=torch.float64) + 0.5) * scale
    lines = torch.arange(have, dtype=torch.float64) + 0.5
    weights = (1 - (lines - centres[:, None]).abs() / reach).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True)).float()
