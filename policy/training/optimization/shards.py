"""Tensors of which each process has a part, its shard: torch's DTensor, divided along axis 0.

DTensor is imported where one is made: it takes a second, which runs without sharding save.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process has a part of it alone."""
    return hasattr(tensor, "placements")


def local(tensor: Tensor) -> Tensor:
    """What this process has of a tensor: its shard, or all of it."""
    if not is_sharded(tensor):
        return tensor
    sharded: Any = tensor
    found: Tensor = sharded.to_local()
    return found


def sharded_as(value: Tensor, like: Tensor) -> Tensor:
    """A tensor that this process has whole, sharded as another one is; nothing is sent.

    value: Of the shape of `like`, the same in all processes.
    """
    if not is_sharded(like) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    own: Any = like
    with torch.no_grad():
        whole = value.to(device=like.device, dtype=like.dtype)
        return distribute_tensor(whole, own.device_mesh, own.placements, src_data_rank=None)


def sharded_as_in(tensors: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Tensors by their names in a module, sharded as the module's own are."""
    own = module.state_dict(keep_vars=True)
    return {n: sharded_as(value, own[n]) if n in own else value for n, value in tensors.items()}


def gathered(
    files: Mapping[str, Mapping[str, Tensor]], wanted: bool
) -> dict[str, dict[str, Tensor]]:
    """Copies of whole tensors in the processor's memory, by file and name; none where they are not
    `wanted`.

    All processes that have shards call this, with the same names in the same order. A device holds
    one whole tensor at a time.
    """
    found: dict[str, dict[str, Tensor]] = {stem: {} for stem in files}
    for stem, tensors in files.items():
        for name, tensor in tensors.items():
            whole = _whole(tensor)
            if wanted:
                found[stem][name] = whole.to("cpu", copy=True)
    return found


@torch.no_grad()
def _whole(tensor: Tensor) -> Tensor:
    sharded: Any = tensor
    whole: Tensor = sharded.full_tensor() if is_sharded(tensor) else tensor
    return whole.detach()
