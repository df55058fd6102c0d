"""Processes that a launcher starts for one run: torchrun, or whatever sets its variables.

    torchrun --standalone --nproc-per-node=2 --no-python dipole train ...

RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT say which process this
is and where the first one is found; TORCHELASTIC_* which start of the group this is.
"""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from torch import distributed

from dipole.data.core.errors import ConfigError
from dipole.data.core.processors import processors
from dipole.policy.training.output.run_folder import RUN_FILE
from dipole.policy.training.process.group import (
    CONNECTING,
    Group,
    LostRankError,
    joined,
    set_timeout,
)
from dipole.policy.training.process.rank import Rank
from dipole.policy.training.process.rendezvous import agreed_name
from dipole.policy.training.process.whereabouts import Whereabouts

NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
ELASTIC = "TORCHELASTIC_RESTART_COUNT"


@dataclass(frozen=True)
class Launch:
    """rank: Over all machines. local: On this machine. restarts: Of the group before this start.

    identity: Of the launcher, the same for every start of its group; "": there is none.
    """

    rank: Rank = field(default_factory=Rank)
    local: Rank = field(default_factory=Rank)
    restarts: int = 0
    identity: str = ""
    address: tuple[str, int] = ("", 0)

    @classmethod
    def of(cls, variables: Mapping[str, str] = os.environ) -> "Launch":
        """As the environment says. Raises ConfigError for numbers that cannot be."""
        if not all(name in variables for name in NEEDED):
            return cls()
        try:
            rank = Rank(int(variables["RANK"]), int(variables["WORLD_SIZE"]))
            number = int(variables["LOCAL_RANK"])
            local = Rank(number, int(variables.get("LOCAL_WORLD_SIZE", rank.count)))
            address = (variables["MASTER_ADDR"], int(variables["MASTER_PORT"]))
            restarts = int(variables.get(ELASTIC, 0))
        except ValueError as error:
            named = ", ".join(f"{name}={variables[name]}" for name in NEEDED)
            raise ConfigError(f"the launcher's variables cannot be: {error} ({named})") from error
        return cls(rank, local, restarts, _identity(variables), address)

    def begun_before(self, output: Path) -> Path | None:
        """The run that an earlier start of this group began: `output`, or, where this launcher has
        started it again, one beside it, as `output` may have the time in its name."""
        if not self.identity:
            return None
        beside = sorted(output.parent.glob(f"*/{RUN_FILE}")) if self.restarts else []
        for file in [output / RUN_FILE, *beside]:
            try:
                if json.loads(file.read_text()).get("launch") == self.identity:
                    return file.parent
            except (OSError, ValueError):
                continue  # not of this group, which writes it in one step
        return None


@contextmanager
def training_group(device: str, seconds: float) -> Iterator[Group]:
    """The processes that train one run together, which have found each other; alone, this one.

    device: "auto" and "cuda" are a GPU of its own for each process of a machine.
    seconds: After which a process that does not answer is missing.
    Raises ConfigError where there are not as many GPUs.
    """
    if distributed.is_available() and distributed.is_initialized():  # whoever calls it did
        with joined(Group.of_all(seconds)) as group:
            yield group
        return
    launch = Launch.of()
    if not launch.rank.is_one_of_several:
        yield Group()
        return
    on_gpu = _choose_gpu(device, launch.local)
    if not on_gpu:
        _share_cores(launch.local)
    name = _connect(launch, "cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    set_timeout(timedelta(seconds=seconds))
    asked = Whereabouts(*launch.address, f"dipole/{name}", launch.rank.index, launch.rank.count)
    with joined(Group.of_all(seconds, asked)) as group:
        yield group
    distributed.destroy_process_group()  # not after an error: others may wait for what never comes


def _connect(launch: Launch, backend: str) -> str:
    """Begin torch.distributed; the name of this start of the group."""
    rank, own = launch.rank, cast("Any", distributed)
    try:
        store, _, _ = next(own.rendezvous("env://", rank.index, rank.count, timeout=CONNECTING))
        name = agreed_name(own.PrefixStore("dipole", store), rank, CONNECTING.total_seconds())
        own.init_process_group(
            backend,
            store=own.PrefixStore(name, store),
            rank=rank.index,
            world_size=rank.count,
            timeout=CONNECTING,
        )
    except (RuntimeError, LostRankError) as error:
        raise LostRankError(
            f"rank {rank.index}: the {rank.count} processes did not find each other at "
            f"{launch.address[0]}:{launch.address[1]}: {error}"
        ) from error
    return name


def _choose_gpu(device: str, local: Rank) -> bool:
    """Whether each process computes on a GPU; this one's becomes torch's own choice."""
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return False
    if device not in ("auto", "cuda"):
        raise ConfigError(
            f"train.device={device} with {local.count} processes on this machine: leave it out, "
            "for a GPU for each, or set train.device=cpu"
        )
    available = torch.cuda.device_count()
    if local.count > available:
        raise ConfigError(
            f"{local.count} processes on a machine with {available} GPUs: start as many as there "
            "are (--nproc-per-node), or set train.device=cpu"
        )
    torch.cuda.set_device(local.index)
    return True


def _share_cores(local: Rank) -> None:
    """Among the processes of this machine, unless OMP_NUM_THREADS says otherwise: torchrun sets it
    to 1 where it is not set."""
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, processors() // local.count))


def _identity(variables: Mapping[str, str]) -> str:
    if ELASTIC not in variables:
        return ""
    name = variables.get("TORCHELASTIC_RUN_ID", "none")
    # With a fixed address every launcher is called "none": this one is the parent process.
    return name if name != "none" else f"{platform.node()}:{os.getppid()}:{_began(os.getppid())}"


def _began(pid: int) -> str:
    """When a process began, where the system says so."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
