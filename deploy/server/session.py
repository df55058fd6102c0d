"""A policy, as the server offers it: what a client sends becomes a request, and a chunk an answer.

    dipole's client    a window of To observations, a ticket        -> the whole chunk [H, A]
    openpi's client    one observation, or a window, no ticket      -> actions from now on [n, A]

For clients of the second kind the server remembers what each connection has seen.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.registry import nearest
from dipole.deploy.inference.base import Compute, compute_chunk
from dipole.deploy.observations.history import RecentObservations
from dipole.deploy.server.batching import Batcher, Overloaded
from dipole.deploy.types import Arrays, Request, Ticket
from dipole.deploy.wire.codec import MessageError
from dipole.deploy.wire.protocol import Schema, answer_message, error_message, read_request

PREFIX = "observation/"  # how openpi's clients name what the robot sees
RESET = "reset"  # an entry of theirs that begins the history anew


@dataclass
class ServedPolicy:
    """schema: what clients are told; make_compute: one computation for each client, as it may
    remember the client's noise; forget_after: seconds after which an observation is no past of the
    next one, for clients that send single ones; batcher: what computes clients' requests together,
    None where they are computed one after another."""

    schema: Schema
    make_compute: Callable[[], Compute]
    forget_after: float = 0.5
    clock: Callable[[], float] = field(default=time.monotonic)
    batcher: Batcher | None = None


class Session:
    """The requests of one connection, one at a time."""

    def __init__(self, policy: ServedPolicy) -> None:
        self._policy = policy
        self._spec = policy.schema.spec
        self._compute = policy.make_compute()
        # Of clients that send single observations: what they sent last, and when.
        self._recent = RecentObservations(self._spec.window.n_obs_steps)
        self._sent = -float("inf")
        self._ticket = Ticket(0, 0, 0.0, 0)  # of the newest request that came without one
        self._busy = threading.Lock()  # held from a request's beginning to its answer

    def close(self) -> None:
        """The client has gone."""
        close = getattr(self._compute, "close", None)
        if close is not None:
            close()

    def answer(self, message: Any) -> dict[str, Any]:
        """The answer to a message. Raises MessageError for what is no request, and Overloaded while
        the request before it, whose client no longer waits for it, is still computed; what a policy
        raises is left to the caller."""
        if not self._busy.acquire(blocking=False):
            raise Overloaded(
                "the chunk that took longer than server.compute_timeout is still being computed: "
                "ask again later"
            )
        try:
            return self._answer(message)
        finally:
            self._busy.release()

    def _answer(self, message: Any) -> dict[str, Any]:
        if not isinstance(message, Mapping):
            raise MessageError(f"a request is a map, not {type(message).__name__}")
        if "ticket" in message:
            return self._answer_dipole(message)
        return self._answer_openpi(message)

    def _answer_dipole(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The whole chunk for a window."""
        request = read_request(message)
        try:
            window = {n: self._value(n, request.observation) for n in self._spec.observation}
            for name, value in window.items():
                if not self._is_window(name, value):
                    raise MessageError(f"observation {name!r} is one, not a window of them")
            if request.known and not self._spec.inpaints:
                raise MessageError("this policy cannot draw a chunk of which a part is known")
        except MessageError as error:
            return error_message(request.ticket, str(error))
        return self._computed(Request(request.ticket, window, request.known))

    def _answer_openpi(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The actions from the current one on, for a window or a single observation."""
        given = _by_name(message)
        observation = {name: self._value(name, given) for name in self._spec.observation}
        now, begins = self._policy.clock(), _flag(message, RESET)
        window: Arrays = observation
        if not self._are_windows(observation):
            begins = begins or now - self._sent > self._policy.forget_after
            window = self._with_history(observation, begins)
            self._sent = now
        last = self._ticket
        self._ticket = Ticket(last.chunk_id + 1, last.epoch + begins, now, 0)
        answer = self._computed(Request(self._ticket, window))
        current = self._spec.window.n_obs_steps - 1
        actions = np.asarray(answer["actions"])[current:]
        return {"actions": actions, "server_timing": answer["server_timing"]}

    def _with_history(self, observation: Arrays, begins: bool) -> Arrays:
        """The window that ends with a single observation; begins: nothing came before it."""
        if begins:
            self._recent.clear()
        self._recent.push(observation)
        return self._recent.stacked()

    def _computed(self, request: Request) -> dict[str, Any]:
        started = time.perf_counter()
        answer = compute_chunk(self._compute, request)
        return answer_message(request, answer, time.perf_counter() - started)

    def _value(self, name: str, given: Mapping[str, Any]) -> NDArray[Any]:
        """An observation of the policy's, one of them or a window, checked."""
        if name not in given:
            raise MessageError(
                f"the observation has no {name!r}{nearest(name, list(given)) or ';'} "
                f"the policy needs {', '.join(self._spec.observation)}"
            )
        try:
            value = np.asarray(given[name])
        except (ValueError, TypeError, OverflowError) as error:  # lists of different lengths
            raise MessageError(f"observation {name!r} is no array: {error}") from None
        if not self._is_window(name, value) and value.shape != self._spec.observation[name]:
            raise MessageError(
                f"observation {name!r} has shape {list(value.shape)}; "
                f"{list(self._spec.observation[name])} is needed, or a window of "
                f"{self._spec.window.n_obs_steps}"
            )
        return self._cast(name, value)

    def _is_window(self, name: str, value: NDArray[Any]) -> bool:
        return value.shape == (self._spec.window.n_obs_steps, *self._spec.observation[name])

    def _are_windows(self, observation: Arrays) -> bool:
        """Whether all of them are. Raises MessageError if only some are."""
        found = {self._is_window(name, value) for name, value in observation.items()}
        if len(found) > 1:
            raise MessageError("some observations are windows, and some are not")
        return found == {True}

    def _cast(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        """As the policy was trained: what is not pixels may come in any number type."""
        wanted = np.dtype(self._policy.schema.dtypes.get(name, "float32"))
        if value.dtype.kind not in "fiub" or (wanted.kind != "f" and value.dtype != wanted):
            raise MessageError(f"observation {name!r} has dtype {value.dtype}; {wanted} is needed")
        cast = value.astype(wanted)
        if not np.isfinite(cast).all():
            raise MessageError(f"observation {name!r} is not finite")
        return cast


def _flag(message: Mapping[str, Any], name: str) -> bool:
    value = message.get(name, False)
    if not isinstance(value, bool | int | np.bool_):
        raise MessageError(f"{name!r} is {type(value).__name__}, and has to be true or false")
    return bool(value)


def _by_name(message: Mapping[str, Any]) -> dict[str, Any]:
    """What openpi's clients call observation/NAME, or put under "observation", by its name."""
    nested = message.get("observation")
    flat = {str(name).removeprefix(PREFIX): value for name, value in message.items()}
    return flat | (dict(nested) if isinstance(nested, Mapping) else {})
