"""Gradients summed over the processes of a group, sent in buckets while the backward pass goes on.

    backward pass   gradients of the last layers ─ ... ─ of the first layers
    sending           bucket 0 ─ bucket 1 ─ ...  ─ bucket n
                                                     └ a round: has any process failed?
                                                        └ wait for the sums

Buckets hold parameters from the last to the first, as their gradients come (Li et al., 2020,
"PyTorch Distributed"). They are begun in this order in all processes, each when all of its
gradients are there; what is not begun by then is after the round.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.policy.training.process.group import Group

T = TypeVar("T", bound=Tensor)
BUCKET = 32 * 2**20  # bytes that are sent at once


@dataclass(frozen=True)
class _Sent:
    """Gradients of a bucket, joined, and the operation that makes them sums."""

    gradients: Sequence[Tensor]
    joined: Tensor
    work: Any

    def take(self) -> None:
        """Wait for the sums, and put them in the gradients' place."""
        self.work.wait()
        parts = torch.split(self.joined, [gradient.numel() for gradient in self.gradients])
        for gradient, part in zip(self.gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))


class GradientSums:
    """Of the parameters of one update.

    during_backward: Whether sending begins in the last backward pass of the update, or after it;
        the sums are the same bits.
    size: Bytes that are sent at once; None: 32 MiB.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        group: Group,
        during_backward: bool,
        size: int | None = None,
    ) -> None:
        self.parameters, self.group = parameters, group
        self._buckets = buckets(list(reversed(parameters)), BUCKET if size is None else size)
        self._sent: list[_Sent | None] = []
        self._missing: list[set[nn.Parameter]] = []  # of each bucket, while sending
        self._changed = False
        self._overlaps = during_backward and not group.is_alone
        if self._overlaps:
            self._bucket_of = {p: n for n, each in enumerate(self._buckets) for p in each}
            for parameter in parameters:
                hooked: Any = parameter
                hooked.register_post_accumulate_grad_hook(self._is_ready)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Around the last backward pass of the update."""
        self._sent, self._changed = [], False
        if self._overlaps:
            self._missing = [set(each) for each in self._buckets]
        try:
            yield
        finally:
            self._missing = []

    def finish(self) -> None:
        """Each gradient becomes the sum of those of all processes, the same bits in all of them.

        Nothing is waited for before all processes have their gradients: an error of one is raised
        in all. Where only some have a gradient of a parameter, it is 0 in the others; where none
        has, it stays without. Raises what `Group.round` does.
        """
        if self.group.is_alone:
            return
        sent, self._sent = self._sent, []
        if self._changed:
            raise ConfigError(
                "train.overlap_gradients: a backward pass adds to a gradient after it was "
                "complete, and was sent: set it to false"
            )
        have_same_gradients(self.parameters, self.group)
        sent += [_send(bucket) for bucket in self._buckets[len(sent) :]]
        for each in sent:
            if each is not None:
                each.take()

    def _is_ready(self, parameter: nn.Parameter) -> None:
        """Called when a backward pass has added to its gradient."""
        if not self._missing:
            return
        number = self._bucket_of[parameter]
        if number < len(self._sent):
            self._changed = True
        self._missing[number].discard(parameter)
        while len(self._sent) < len(self._buckets) and not self._missing[len(self._sent)]:
            self._sent.append(_send(self._buckets[len(self._sent)]))


def _send(bucket: Sequence[nn.Parameter]) -> _Sent | None:
    """Begin to add up the gradients of a bucket; None where there are none."""
    gradients = [p.grad for p in bucket if p.grad is not None]
    if not gradients:
        return None
    joined = torch.cat([gradient.reshape(-1) for gradient in gradients])
    return _Sent(gradients, joined, distributed.all_reduce(joined, async_op=True))


def buckets(tensors: Sequence[T], size: int = BUCKET) -> list[list[T]]:
    """In order, those of one dtype together, each of at most `size` bytes or one tensor."""
    found: list[list[T]] = []
    filled = 0
    for tensor in tensors:
        bytes_ = tensor.numel() * tensor.element_size()
        if not found or found[-1][0].dtype != tensor.dtype or filled + bytes_ > size:
            found.append([])
            filled = 0
        found[-1].append(tensor)
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
