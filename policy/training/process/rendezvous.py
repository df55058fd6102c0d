"""How the processes of a group find each other, also where an earlier start of the group did.

A launcher that starts a group again may keep the store through which processes tell each other
their addresses, with what those of the start before had left in it: torchrun does
(https://github.com/pytorch/pytorch/issues/135712), and the number of restarts that it gives is not
the same on all machines. Whoever takes such an address waits for a process that is gone.
"""

import json
import secrets
import time
from typing import Any

from dipole.policy.training.process.group import LostRankError
from dipole.policy.training.process.rank import Rank

PAUSE = 0.05  # seconds between two looks at the store
GROUP = "group"  # the key of {"name": NAME, "processes": [its number of each]}


def agreed_name(store: Any, rank: Rank, seconds: float) -> str:
    """A name that the processes of this start of the group have agreed on, and none before them.

    Each draws a number and leaves it in the store. The first one names what it finds there; a
    process that finds its own number in it says so. Once all have, none of the numbers was an
    earlier process's.

    store: Of torch.distributed, the same for all processes.
    Raises LostRankError after `seconds`, with the ranks that did not come.
    """
    own = secrets.token_hex(8)
    store.set(_number(rank.index), own)
    began = time.monotonic()
    named = ""
    while True:
        if rank.is_main:
            _name(store, rank.count)
        group = _group(store)
        if group is not None and group["processes"][rank.index : rank.index + 1] == [own]:
            named = group["name"]
            store.set(_confirmed(named, rank.index), "")
        missing = _missing(store, rank, named)
        if rank.is_main and not missing:
            store.set(_complete(named), "")
        if named and store.check([_complete(named)]):
            return named
        if time.monotonic() - began > seconds:
            raise LostRankError(
                f"rank {rank.index}: of the {rank.count} processes {', '.join(missing)} did not "
                f"come within {seconds:g} s"
            )
        time.sleep(PAUSE)


def _name(store: Any, count: int) -> None:
    """Name the processes whose numbers are there, unless they have a name."""
    keys = [_number(index) for index in range(count)]
    if not store.check(keys):
        return
    processes = [store.get(key).decode() for key in keys]
    group = _group(store)
    if group is None or group["processes"] != processes:
        store.set(GROUP, json.dumps({"name": secrets.token_hex(8), "processes": processes}))


def _group(store: Any) -> dict[str, Any] | None:
    if not store.check([GROUP]):
        return None
    found: dict[str, Any] = json.loads(store.get(GROUP))
    return found


def _missing(store: Any, rank: Rank, named: str) -> list[str]:
    """Those that have not confirmed the name; as far as others than the first one know, that one,
    which completes it."""
    if not rank.is_main:
        return ["rank 0 and perhaps others"]
    ranks = range(rank.count)
    return [f"rank {each}" for each in ranks if not store.check([_confirmed(named, each)])]


def _number(index: int) -> str:
    return f"number/{index}"


def _confirmed(name: str, index: int) -> str:
    return f"confirmed/{name}/{index}"


def _complete(name: str) -> str:
    return f"complete/{name}"
