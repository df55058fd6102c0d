"""How much memory there is to hold a dataset."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

FRACTION = 0.5  # of what is free; the rest is for the policy and whoever else runs here

# Limit and use, version 2 and version 1: what a container may have, not what its host has.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def resident_limit(device: "torch.device") -> int:
    """Bytes that a resident dataset may take on the device: half of what is free now."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0] * FRACTION)
    return int(free_memory() * FRACTION)


def format_bytes(n_bytes: int) -> str:
    """Bytes for a person: "3.4 MiB"."""
    value = float(n_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


def free_memory() -> int:
    """Bytes of main memory that are free, or half of all where the system does not say."""
    free = [_meminfo()] + [_cgroup(*files) for files in _CGROUPS]
    known = [value for value in free if value is not None]
    if known:
        return max(min(known), 0)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(available.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return None


def _cgroup(limit: str, used: str) -> int | None:
    try:
        return int(Path(limit).read_text()) - int(Path(used).read_text())
    except (OSError, ValueError):  # absent, or "max"
        return None
