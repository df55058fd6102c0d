"""How much memory there is to hold a dataset."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dipole.data.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

FRACTION = 0.5  # of what is free; the rest is for the policy and whoever else runs here
_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", start=1)}
_UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("kMGT", start=1)}


def resident_limit(device: "torch.device", ranks: int = 1) -> int:
    """Bytes that a resident dataset may take on the device: half of what is free now.

    ranks: processes that share this machine's memory, each with a copy; a GPU is one rank's own.
    """
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0] * FRACTION)
    return int(free_memory() * FRACTION) // ranks


def format_bytes(n_bytes: int) -> str:
    """Bytes for a person: "3.4 MiB"."""
    value = float(n_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


def read_bytes(amount: int | str) -> int:
    """Bytes of "4GiB", "500 MB" or a whole number; raises ConfigError for anything else.

    >>> read_bytes("1.5 GiB")
    1610612736
    """
    written = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(amount))
    units = {unit.lower(): size for unit, size in _UNITS.items()}
    if isinstance(amount, bool) or written is None or written[2].lower() not in units:
        raise ConfigError(f"{amount!r} is no amount of memory: give bytes, or e.g. 4GiB")
    return int(float(written[1]) * units[written[2].lower()])


def free_memory(root: Path = Path("/")) -> int:
    """Bytes of main memory that are free, or half of all where the system does not say.

    The least of the machine's and of each control group's that this process is in: what a container
    or a batch job may have, not what its host has. root: where /proc and /sys are.
    """
    free = [_meminfo(root), *_cgroups(root)]
    known = [value for value in free if value is not None]
    if known:
        return max(min(known), 0)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _meminfo(root: Path) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(available.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return None


def _cgroups(root: Path) -> Iterator[int | None]:
    """Free bytes of each group, from the process's own up to the outermost that can be seen."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    mounts = root / "sys/fs/cgroup"
    groups = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    for _, controllers, path in groups:
        if not controllers:
            for mount in (mounts, mounts / "unified"):
                yield from _chain(mount, path, "memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
            yield from _chain(mounts / "memory", path, *names)


def _chain(mount: Path, path: str, limit: str, used: str, prefix: str) -> Iterator[int | None]:
    """A group and those around it; where a container sees only its own as the root, that one."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for n in range(len(parts), -1, -1):
        yield _group(mount.joinpath(*parts[:n]), limit, used, prefix)


def _group(folder: Path, limit: str, used: str, prefix: str) -> int | None:
    """The limit less what is used for good: the file cache is given back when it is asked for."""
    try:
        allowed = int((folder / limit).read_text())
        in_use = int((folder / used).read_text())
    except (OSError, ValueError):  # absent, or "max"
        return None
    return allowed - max(in_use - _file_cache(folder, prefix), 0)


def _file_cache(folder: Path, prefix: str) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
        values = dict(line.split() for line in lines)
        return sum(int(values.get(f"{prefix}{kind}_file", 0)) for kind in ("inactive", "active"))
    except (OSError, ValueError):
        return 0
