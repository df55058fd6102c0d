"""What the control loop needs of whoever computes chunks. It never waits for them.

Inference runs off the control thread: in a process (process.py), in a thread (worker.py), on
another computer (remote.py), or, in tests, on the virtual clock (virtual.py).
"""

from collections.abc import Callable
from typing import Any, Protocol

from dipole.data.core.errors import DipoleError
from dipole.deploy.types import Arrays, KnownActions, PolicySpec, Request, Result, Ticket

WARM_UP = Ticket(chunk_id=0, epoch=-1, observation_time=0.0, consumed=0)  # its chunk is not used
NOTHING_KNOWN: KnownActions = {}


class InferenceDied(DipoleError):  # noqa: N818  it is what happened
    """Whoever computes chunks is gone, and why."""


class Inference(Protocol):
    """Computes chunks elsewhere. One request may wait; a newer one replaces it."""

    @property
    def spec(self) -> PolicySpec: ...

    @property
    def notes(self) -> list[str]:
        """Lines for the report of a run, about how chunks were computed; often none."""
        ...

    @property
    def warmed_up(self) -> Any:
        """The answer to the last request of warm_up, {"action": [H, A]}; None: there was none."""
        ...

    def warm_up(
        self, observation: Arrays, calls: int, known: KnownActions = NOTHING_KNOWN
    ) -> list[float]:
        """Compute chunks that are not used, and wait for them, so that none is slow in motion.

        calls: how many chunks, and as many again with what is known, if anything is: in-painting
        may compile code of its own.
        known: what a request in motion would hold (chunks/prefix.py).
        Returns each chunk's latency in seconds, in this order. Raises InferenceDied.
        """
        ...

    def submit(self, request: Request) -> None:
        """Ask for a chunk; returns at once."""
        ...

    def poll(self) -> Result | None:
        """The next answer if one is there; returns at once. Raises InferenceDied."""
        ...

    def close(self) -> None:
        """End it, whatever it is doing."""
        ...


# (ticket, observation {name: [To, *shape]}) -> {"action": [H, A]}. One that in-paints is given what
# is known (chunks/prefix.py) as a third argument, if there is anything.
Compute = Callable[..., Any]


def compute_chunk(compute: Compute, request: Request) -> Any:
    """The answer to a request."""
    known = (request.known,) if request.known else ()
    return compute(request.ticket, request.observation, *known)
