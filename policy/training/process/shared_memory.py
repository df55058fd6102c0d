"""Memory that the processes of a group share, where all are on one machine.

It has no name in the file system, takes memory as it is written to, and goes with the last process
that has it, however that ends.
"""

import mmap
import os
import secrets
from collections.abc import Sequence

import torch
from torch import Tensor

from dipole.policy.training.process.group import Group

ALIGNED = 64  # bytes: of a processor's cache line
TOKEN = 32  # bytes at the beginning, by which a process sees that it has opened the right memory


class SharedMemory:
    """Tensors in memory of the processes of a group.

    Every process takes the same tensors in the same order, and has the same ones.
    """

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self._taken = _aligned(TOKEN)

    @classmethod
    def of(cls, group: Group, tensors: Sequence[Tensor]) -> "SharedMemory | None":
        """Room for tensors like these; None, in all processes, where one of them is on another
        machine or the system has no such memory."""
        size = _aligned(TOKEN) + sum(map(_room, tensors))
        file = _create(size) if group.rank.is_main else None
        place = None if file is None else [f"/proc/{os.getpid()}/fd/{file}", _token(file)]
        found = group.gather(place)[0]
        mapped = None if found is None else _open(found[0], found[1], size)
        everywhere = all(group.gather(mapped is not None))
        if file is not None:
            os.close(file)
        return cls(mapped) if everywhere and mapped is not None else None

    def take(self, like: Tensor) -> Tensor:
        """The next tensor: of the shape, dtype and order in memory of `like`; 0 where no process
        has written."""
        flat = torch.frombuffer(
            self._mapped, dtype=like.dtype, count=max(1, like.numel()), offset=self._taken
        )
        self._taken += _room(like)
        strides = torch.empty_like(like, device="meta").stride()
        return flat.as_strided(like.shape, strides)


def _room(tensor: Tensor) -> int:
    return _aligned(max(1, tensor.numel()) * tensor.element_size())


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def _create(size: int) -> int | None:
    """The descriptor of a file without a name, with a token at its beginning."""
    if not hasattr(os, "memfd_create"):  # not Linux
        return None
    try:
        file: int = os.memfd_create("dipole")
    except OSError:  # a sandbox that forbids it
        return None
    os.truncate(file, size)
    os.pwrite(file, secrets.token_hex(TOKEN // 2).encode(), 0)
    return file


def _token(file: int) -> str:
    return os.pread(file, TOKEN, 0).decode()


def _open(path: str, token: str, size: int) -> mmap.mmap | None:
    """None where it cannot be opened, or what is there is something else."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        return mmap.mmap(file, size) if _begins_with(file, token) else None
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)


def _begins_with(file: int, token: str) -> bool:
    return os.pread(file, TOKEN, 0) == token.encode()
