"""Noise for sampling, row by row."""

from collections.abc import Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None


def draw_noise(
    shape: tuple[int, ...], generator: Generators, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal noise [B, ...] on `device`.

    With a list of B generators each row draws from its own, so that a row's noise does not depend
    on its neighbours. Drawn where the generators live, on the processor unless told otherwise, so
    that a seed means the same chunk on every device.
    """
    if generator is None:
        return torch.randn(shape, device=device)
    if isinstance(generator, torch.Generator):
        return torch.randn(shape, generator=generator, device=generator.device).to(device)
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators for {shape[0]} rows: give one per row")
    rows = [torch.randn(shape[1:], generator=g, device=g.device) for g in generator]
    return torch.stack(rows).to(device)
