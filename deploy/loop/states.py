"""The loop's states, and the only ways between them.

IDLE ──> WARMUP ──> ARMED ──> RUN <──> HOLD
  ^                   └────────┴────────┴──> STOPPING ──> STOPPED, FAULT
  │                                          from each of them as well: STOPPED, FAULT
  └── reset: the only way out of STOPPED and FAULT
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dipole.data.core.errors import DipoleError


class State(StrEnum):
    IDLE = "IDLE"  # nothing connected, nothing moves
    WARMUP = "WARMUP"  # connected; the policy computes, nothing moves
    ARMED = "ARMED"  # a person allowed motion; nothing moves yet
    RUN = "RUN"  # actions are sent
    HOLD = "HOLD"  # no valid action: the robot is brought to rest and stays there
    STOPPING = "STOPPING"  # the robot is brought to rest, to end
    STOPPED = "STOPPED"  # ended as asked, or by a limit
    FAULT = "FAULT"  # ended by an error, until reset


FORWARD = {
    State.IDLE: {State.WARMUP},
    State.WARMUP: {State.ARMED},
    State.ARMED: {State.RUN, State.HOLD, State.STOPPING},
    State.RUN: {State.HOLD, State.STOPPING},
    State.HOLD: {State.RUN, State.STOPPING},
    State.STOPPING: set(),
    State.STOPPED: set(),
    State.FAULT: set(),
}
ENDED = (State.STOPPED, State.FAULT)


class StateError(DipoleError):
    """What was asked for is not possible in the present state."""


@dataclass(frozen=True)
class Transition:
    """When the state changed, to what, and why."""

    time: float
    state: State
    reason: str


@dataclass(frozen=True)
class Ending:
    """Why a run ends.

    brake: Whether the robot can still be commanded to rest.
    as_asked: Whether its time was up, or somebody asked; else the loop gave up, or there was a
        fault.
    """

    state: State
    reason: str
    brake: bool = True
    as_asked: bool = False


class StateMachine:
    """The present state and why it was entered; any thread may change it.

    note: called with every transition, outside the lock: it may block nobody else.
    """

    def __init__(self, now: Callable[[], float], note: Callable[[Transition], None]) -> None:
        self._present = Transition(now(), State.IDLE, "")
        self._now = now
        self._note = note
        self._lock = threading.Lock()

    @property
    def state(self) -> State:
        return self._present.state

    @property
    def reason(self) -> str:
        """Why the present state was entered."""
        return self._present.reason

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def to(self, state: State, reason: str) -> bool:
        """Change state, and note it; returns whether it changed. See `change`."""
        transition = self.change(state, reason)
        if transition is not None:
            self._note(transition)
        return transition is not None

    def change(self, state: State, reason: str) -> Transition | None:
        """Change state without noting it; the transition, or None where nothing changed.

        An ended loop stays ended, and the first fault's reason is kept. Raises StateError where
        there is no such way.
        """
        with self._lock:
            if state == self.state or (self.ended and state in ENDED):
                return None
            if state not in ENDED and state not in FORWARD[self.state]:
                after = f": {self.reason}. Reset it first" if self.ended else ""
                raise StateError(f"the loop is {self.state}{after}; it cannot become {state}")
            return self._change(state, reason)

    def reset(self) -> None:
        """A person's decision to begin again after STOPPED or FAULT."""
        with self._lock:
            if not self.ended:
                raise StateError(f"the loop is {self.state}; only STOPPED and FAULT are reset")
            transition = self._change(State.IDLE, "reset")
        self._note(transition)

    def _change(self, state: State, reason: str) -> Transition:
        self._present = Transition(self._now(), state, reason)
        return self._present
