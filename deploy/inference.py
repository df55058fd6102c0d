"""What the control loop needs of whoever computes chunks. It never waits for them.

Inference runs off the control thread: in a process (process_inference.py), in a thread
(thread_inference.py), or, in tests, on the virtual clock, here.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dipole.data.errors import ConfigError, DipoleError
from dipole.data.window_spec import WindowSpec
from dipole.deploy.clock import VirtualClock
from dipole.deploy.known import Known
from dipole.deploy.plan import Ticket
from dipole.deploy.robot import RobotSpec

Arrays = Mapping[str, NDArray[Any]]


class InferenceDied(DipoleError):  # noqa: N818  it is what happened
    """Whoever computes chunks is gone, and why."""


@dataclass(frozen=True)
class PolicySpec:
    """What a policy sees, {name: shape of one observation}, and does: size numbers an action.

    inpaints: whether it takes what is known of a chunk (known.py).
    """

    observation: Mapping[str, tuple[int, ...]]
    action_size: int
    window: WindowSpec
    inpaints: bool = False


def check_fit(robot: RobotSpec, policy: PolicySpec) -> None:
    """Raises ConfigError where the robot does not see, or do, what the policy does."""
    for name, shape in policy.observation.items():
        channel = robot.observation.get(name)
        if channel is None:
            raise ConfigError(
                f"the policy observes {name!r}, the robot has {', '.join(robot.observation)}"
            )
        if channel.shape != shape:
            raise ConfigError(
                f"the policy observes {name!r} with shape {list(shape)}, the robot gives "
                f"{list(channel.shape)}"
            )
    if robot.action.size != policy.action_size:
        raise ConfigError(
            f"the policy's actions have {policy.action_size} numbers, the robot's "
            f"{robot.action.size} ({', '.join(robot.action.names)})"
        )


@dataclass(frozen=True)
class Request:
    """A chunk that is wanted, for an observation {name: [To, *shape]}; known: see known.py."""

    ticket: Ticket
    observation: Arrays
    known: Known = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """An answer: {"action": [H, A]}, unchecked, and how long it took; or an error.

    lost: there will be no answer to this request, and nobody is to blame; ask again.
    """

    ticket: Ticket
    answer: Any
    seconds: float
    error: str = ""
    lost: bool = False


class Inference(Protocol):
    """Computes chunks elsewhere. One request may wait; a newer one replaces it."""

    @property
    def spec(self) -> PolicySpec: ...

    def warm_up(self, observation: Arrays, calls: int) -> None:
        """Compute some chunks, and wait for them. Raises InferenceDied."""
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
# is known (known.py) as a third argument, if there is anything.
Compute = Callable[..., Any]


def compute_chunk(compute: Compute, request: Request) -> Any:
    """The answer to a request."""
    known = (request.known,) if request.known else ()
    return compute(request.ticket, request.observation, *known)


class VirtualInference:
    """Computes at once, and answers when the virtual clock says so: deterministic, for tests.

    delay: seconds from request to answer, a number or a function of the ticket; math.inf loses it.
    """

    def __init__(
        self,
        spec: PolicySpec,
        compute: Compute,
        clock: VirtualClock,
        delay: float | Callable[[Ticket], float] = 0.0,
    ) -> None:
        self.spec = spec
        self._compute = compute
        self._clock = clock
        self._delay = delay if callable(delay) else lambda _ticket: delay
        self._answers: deque[Result] = deque()

    def warm_up(self, observation: Arrays, calls: int) -> None:
        pass

    def submit(self, request: Request) -> None:
        delay = self._delay(request.ticket)
        answer = compute_chunk(self._compute, request)
        self.deliver(Result(request.ticket, answer, delay), delay)

    def deliver(self, result: Result, delay: float) -> None:
        """Have an answer arrive `delay` seconds from now."""
        if delay <= 0:
            self._answers.append(result)
        elif np.isfinite(delay):
            self._clock.call_at(self._clock.now() + delay, lambda: self._answers.append(result))

    def poll(self) -> Result | None:
        return self._answers.popleft() if self._answers else None

    def close(self) -> None:
        self._answers.clear()
