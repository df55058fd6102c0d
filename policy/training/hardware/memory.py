"""Keep freed memory for the next step instead of giving it back to the system."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGE, NEVER = 2**30, -1  # bytes; -1 as mallopt(3) has it


def keep_freed_memory() -> bool:
    """Tell glibc not to return large blocks to the system after each use. Returns whether it was.

    A training step on a CPU allocates and frees the same tensors again and again. By default glibc
    maps large ones anew each time, and the system clears every page: a third of a small network's
    step time. What a step frees at the heap's end is kept however much it is: of the published
    network that is more than 1 GB, a fifth of its step. With other C libraries (macOS, musl)
    nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))
