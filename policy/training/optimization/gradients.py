"""Gradients summed over the processes of a group."""

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn

from dipole.data.core.errors import DipoleError
from dipole.policy.training.process.group import Group

BUCKET = 32 * 2**20  # bytes that are sent at once


def sum_gradients(parameters: Sequence[nn.Parameter], group: Group) -> None:
    """Each gradient becomes the sum of those of all processes, the same bits in all of them.

    Nothing is sent before all processes have their gradients: an error of one is raised in all.
    Where only some have a gradient of a parameter, it is 0 in the others; where none has, it stays
    without. Raises what `Group.round` does.
    """
    if group.is_alone:
        return
    have_same_gradients(parameters, group)
    gradients = [p.grad for p in parameters if p.grad is not None]
    sent = []
    for bucket in buckets(gradients):
        joined = torch.cat([gradient.reshape(-1) for gradient in bucket])
        sent.append((bucket, joined, distributed.all_reduce(joined, async_op=True)))
    for bucket, joined, work in sent:
        work.wait()
        parts = torch.split(joined, [gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))


def buckets(gradients: Sequence[Tensor], size: int = BUCKET) -> list[list[Tensor]]:
    """In order, those of one dtype together, each of at most `size` bytes or one tensor."""
    found: list[list[Tensor]] = []
    filled = 0
    for gradient in gradients:
        bytes_ = gradient.numel() * gradient.element_size()
        if not found or found[-1][0].dtype != gradient.dtype or filled + bytes_ > size:
            found.append([])
            filled = 0
        found[-1].append(gradient)
        filled += bytes_
    return found


def have_same_gradients(parameters: Sequence[nn.Parameter], group: Group) -> bool:
    """Whether the same parameters have a gradient in all processes; if not, those that one of them
    has are 0 in the others from now on."""
    present = [number for number, p in enumerate(parameters) if p.grad is not None]
    found = group.round(len(present), zlib.crc32(repr(present).encode()))
    if all(each == found[0] for each in found):
        return True
    for number in sorted(set().union(*group.gather(present))):
        parameter = parameters[number]
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return False


def refuse_different_gradients(parameters: Sequence[nn.Parameter], group: Group) -> None:
    """Raises DipoleError where not the same parameters have a gradient in all processes: FSDP adds
    up what each has of a unit, which then is not the same."""
    present = [number for number, p in enumerate(parameters) if p.grad is not None]
    found = group.round(len(present), zlib.crc32(repr(present).encode()))
    if any(each != found[0] for each in found):
        raise DipoleError(
            "train.sharding=full: the loss of one process reaches other parameters than that of "
            "another: let each loss reach all of them (a term times 0), or set train.sharding=none"
        )
