"""The plan: what the robot will do next, and the bookkeeping of the chunks it is made of.

A chunk is asked for with a ticket, and comes back with it. Its action To - 1 belongs to the time of
the observation it was computed from; what the robot consumed since then is dropped, and so is
everything that answers to a ticket of an earlier epoch, or to one older than a chunk in use.

    consumed        5   6   7   8   9          Ta = 4, observation 5 was shown to the policy
    chunk 5         a5  a6  a7  a8  a9 ...     arrives when 7 are consumed: begins with a7
"""

from collections import deque
from enum import StrEnum

from dipole.data.loading.window_spec import WindowSpec
from dipole.deploy.chunks.blending import Merger
from dipole.deploy.types import Floats, KnownActions, Ticket


class Verdict(StrEnum):
    """What became of a chunk that arrived."""

    ACCEPTED = "accepted"
    EARLIER_EPOCH = "of an earlier epoch"
    OUT_OF_ORDER = "a duplicate, or older than one in use"
    LATE = "too late"


class ChunkQueue:
    """A queue of actions at the policy's rate, renewed chunk by chunk.

    window: of the policy. merger: joins a chunk with what is left of the one before.
    dt: seconds between actions. max_lateness: seconds after its time at which an action may still
    begin. after: the queue before this one, whose chunks may still be on their way.
    """

    def __init__(
        self,
        window: WindowSpec,
        merger: Merger,
        *,
        dt: float,
        max_lateness: float,
        after: "ChunkQueue | None" = None,
    ) -> None:
        self.epoch: int = 0 if after is None else after.epoch + 1
        self.consumed = 0
        self._window = window
        self._current = window.n_obs_steps - 1  # in a chunk: the action of its observation's time
        self._merger = merger
        self._dt = dt
        self._max_lateness = max_lateness
        self._actions: deque[Floats] = deque()
        self._past: deque[Floats] = deque(maxlen=self._current)  # the actions that ran last
        self._tickets: int = 0 if after is None else after._tickets
        self._newest = Ticket(0, 0, 0.0, 0)  # of the chunks in the queue

    @property
    def left(self) -> int:
        """How many actions there are."""
        return len(self._actions)

    @property
    def next(self) -> Floats | None:
        """The action that comes next, left where it is."""
        return self._actions[0] if self._actions else None

    def reset(self) -> None:
        """Drop everything, and whatever is still on its way: a new epoch."""
        self.epoch += 1
        self.clear()

    def clear(self) -> None:
        """Drop the actions, but not what is on its way."""
        self._actions.clear()
        self._past.clear()
        self._merger.reset()

    def ticket(self, observation_time: float) -> Ticket:
        """For a chunk that is asked for now."""
        self._tickets += 1
        return Ticket(self._tickets, self.epoch, observation_time, self.consumed)

    def can_bridge(self, delay: int) -> bool:
        """Whether the merger does what it is for with this delay."""
        longest = self._merger.max_delay
        return longest is None or delay <= longest

    def known(self, delay: int) -> KnownActions:
        """What is known of a chunk that is asked for now and arrives `delay` actions later."""
        return self._merger.known(self._past, list(self._actions), delay, self._window)

    def accept(self, ticket: Ticket, chunk: Floats, now: float) -> Verdict:
        """Merge a chunk [H, A] that has arrived, if it may be used."""
        if ticket.epoch != self.epoch:
            return Verdict.EARLIER_EPOCH
        if ticket.chunk_id <= self._newest.chunk_id:
            return Verdict.OUT_OF_ORDER
        actions = chunk[self._current + self.consumed - ticket.consumed :]
        if not len(actions) or self._lateness(ticket, now) > self._max_lateness:
            return Verdict.LATE
        self._newest = ticket
        self._actions = deque(self._merger.merge(list(self._actions), actions, self.consumed))
        return Verdict.ACCEPTED

    def pop(self, now: float) -> Floats | None:
        """The next action [A], now consumed; None where there is none that is still valid."""
        if self._actions and self._lateness(self._newest, now) > self._max_lateness:
            self.clear()
        if not self._actions:
            return None
        self.consumed += 1
        action = self._actions.popleft()
        self._past.append(action)
        return action

    def _lateness(self, ticket: Ticket, now: float) -> float:
        """Seconds since the time to which the next action of the ticket's chunk belongs."""
        return now - ticket.observation_time - (self.consumed - ticket.consumed) * self._dt
