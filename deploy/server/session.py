"""A policy, as the server offers it: what a client sends becomes a request, and a chunk an answer.

    dipole's client    a window of To observations with a ticket    -> the whole chunk [H, A]
    openpi's client    one observation, or a window, no ticket      -> actions from now on [n, A]

For clients of the second kind the server remembers what each connection has seen.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.registry import nearest
from dipole.deploy.inference.base import Compute, compute_chunk
from dipole.deploy.types import Arrays, Request, Ticket
from dipole.deploy.wire.codec import MessageError
from dipole.deploy.wire.protocol import Schema, answer_message, error_message, read_request
from dipole.policy.history import ObservationHistory

PREFIX = "observation/"  # how openpi's clients name what the robot sees
RESET = "reset"  # an entry of theirs that begins the history anew


@dataclass(frozen=True)
class ServedPolicy:
    """schema: what clients are told; make_compute: one computation for each client, as it may
    remember the client's noise; forget_after: seconds after which an observation is no past of the
    next one, for clients that send single ones."""

    schema: Schema
    make_compute: Callable[[], Compute]
    forget_after: float = 0.5
    clock: Callable[[], float] = field(default=time.monotonic)


class Session:
    """One client's requests, one at a time."""

    def __init__(self, policy: ServedPolicy) -> None:
        self._policy = policy
        self._spec = policy.schema.spec
        self._compute = policy.make_compute()
        self._history = ObservationHistory(1, self._spec.window.n_obs_steps)
        self._ticket = Ticket(0, 0, 0.0, 0)  # of the newest observation without one
        self._seen = -float("inf")

    def answer(self, message: Any) -> dict[str, Any]:
        """The answer to a message. Raises MessageError for what is no request; what a policy raises
        is left to the caller."""
        if not isinstance(message, Mapping):
            raise MessageError(f"a request is a map, not {type(message).__name__}")
        return self._of_ours(message) if "ticket" in message else self._of_openpi(message)

    def _of_ours(self, message: Mapping[str, Any]) -> dict[str, Any]:
        request = read_request(message)
        try:
            window = {n: self._value(n, request.observation) for n in self._spec.observation}
            wrong = [n for n, value in window.items() if not self._is_window(n, value)]
            if wrong:
                raise MessageError(f"observation {wrong[0]!r} is one, not a window of them")
        except MessageError as error:
            return error_message(request.ticket, str(error))
        return self._computed(Request(request.ticket, window, request.known))

    def _of_openpi(self, message: Mapping[str, Any]) -> dict[str, Any]:
        seen = {n: self._value(n, _flat(message)) for n in self._spec.observation}
        windows = [self._is_window(name, value) for name, value in seen.items()]
        if any(windows) and not all(windows):
            raise MessageError("some observations are windows, and some are not")
        begins = bool(message.get(RESET, False))
        window = self._next_ticket(begins) if all(windows) else self._remember(seen, begins)
        answer = self._computed(Request(self._ticket, window or seen))
        first = self._spec.window.n_obs_steps - 1
        actions = np.asarray(answer["actions"])[first:]
        return {"actions": actions, "server_timing": answer["server_timing"]}

    def _remember(self, seen: Arrays, begins: bool) -> Arrays:
        """The window that ends with what is seen now."""
        now = self._policy.clock()
        begins = begins or now - self._seen > self._policy.forget_after
        self._seen = now
        self._next_ticket(begins)
        if begins:
            self._history.reset(0, seen)
        else:
            self._history.append(0, seen)
        return {name: value[0] for name, value in self._history.stacked([0]).items()}

    def _next_ticket(self, begins: bool) -> Arrays:
        last = self._ticket
        self._ticket = Ticket(last.chunk_id + 1, last.epoch + begins, self._policy.clock(), 0)
        return {}

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
        value = np.asarray(given[name])
        if not self._is_window(name, value) and value.shape != self._spec.observation[name]:
            raise MessageError(
                f"observation {name!r} has shape {list(value.shape)}; "
                f"{list(self._spec.observation[name])} is needed, or a window of "
                f"{self._spec.window.n_obs_steps}"
            )
        return self._cast(name, value)

    def _is_window(self, name: str, value: NDArray[Any]) -> bool:
        return value.shape == (self._spec.window.n_obs_steps, *self._spec.observation[name])

    def _cast(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        """As the policy was trained: what is not pixels may come in any number type."""
        wanted = np.dtype(self._policy.schema.dtypes.get(name, "float32"))
        if value.dtype.kind not in "fiub" or (wanted.kind != "f" and value.dtype != wanted):
            raise MessageError(f"observation {name!r} has dtype {value.dtype}; {wanted} is needed")
        cast = value.astype(wanted)
        if not np.isfinite(cast).all():
            raise MessageError(f"observation {name!r} is not finite")
        return cast


def _flat(message: Mapping[str, Any]) -> dict[str, Any]:
    """What openpi's clients call observation/NAME, or put under "observation", by its name."""
    nested = message.get("observation")
    flat = {str(name).removeprefix(PREFIX): value for name, value in message.items()}
    return flat | (dict(nested) if isinstance(nested, Mapping) else {})
