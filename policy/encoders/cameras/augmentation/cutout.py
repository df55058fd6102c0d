"""Rectangles of training's pictures hidden at random (cutout: DeVries & Taylor, 2017).

As published, a rectangle's centre is anywhere in the picture, so that a part of it may lie outside.
Here its sides are drawn too, and the pictures of one window have the same rectangles.
"""

import torch
from torch import Tensor

from dipole.policy.core.row_draws import same_for_all_rows

FILLS = ("mean", "noise")


def cut_out(images: Tensor, fill: Tensor | None, rows: int, share: float, count: int) -> Tensor:
    """images: [N, 3, h, w], N a multiple of rows -> a copy with `count` rectangles hidden.

    fill: Colours [rows, 3], or None for noise, evenly between 0 and 1, of which each pixel has one
        number for each colour, anew in every call and the same for all pictures of it.
    share: Of the picture's sides, the rectangles' longest.
    """
    by_row = images.view(rows, -1, *images.shape[1:])  # [rows, frames, 3, h, w]
    height, width = images.shape[2:]
    hidden = rectangles(rows, count, share, (height, width), images.device)[:, None, None]
    if fill is None:
        with same_for_all_rows():
            noise = torch.rand(1, 3, height, width, device=images.device)
        colours = torch.empty_like(images[:1]).copy_(noise)[:, None]  # in their memory layout
    else:
        colours = fill[:, None, :, None, None].to(images.dtype)
    return torch.where(hidden, colours, by_row).flatten(0, 1)


def rectangles(
    rows: int, count: int, share: float, size: tuple[int, int], device: torch.device | str = "cpu"
) -> Tensor:
    """bool [rows, h, w], true within any of a row's rectangles."""
    inside = []  # along each axis, [rows, count, h or w]
    for have in size:
        centre = have * torch.rand(rows, count, 1, device=device)
        side = have * share * torch.rand(rows, count, 1, device=device)
        pixels = torch.arange(have, device=device) + 0.5
        inside.append((pixels - centre).abs() < side / 2)
    down, across = inside
    return (down[..., :, None] & across[..., None, :]).any(1)
