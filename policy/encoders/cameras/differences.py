"""Frames' vectors as the newest one and what differs from it in the earlier ones."""

import torch
from torch import Tensor


def frame_differences(vectors: Tensor) -> Tensor:
    """vectors: [B, To, D] -> the same shape: the newest less each earlier one, then the newest.

    It is its own inverse, but for rounding.

    >>> frame_differences(torch.tensor([[[1.0], [3.0], [7.0]]])).flatten().tolist()
    [6.0, 4.0, 7.0]
    """
    newest = vectors[:, -1:]
    return torch.cat([newest - vectors[:, :-1], newest], dim=1)
