"""When a chunk is asked for, and what becomes of the answers."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dipole.deploy.chunks.action_queue import ChunkQueue, Verdict
from dipole.deploy.inference.base import Inference
from dipole.deploy.loop.config import ResolvedLoopConfig
from dipole.deploy.loop.report import Report
from dipole.deploy.observations.buffer import ObservationBuffer
from dipole.deploy.robots.action_math import by_group, nearest_equal
from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.safety.chunk_checks import RefusedAction, check_chunk
from dipole.deploy.types import Floats, Request, Result, Ticket

REMEMBERED = 10  # latencies from which the next one is estimated


@dataclass(frozen=True)
class Pending:
    """A request without an answer: its ticket, and when it was asked."""

    ticket: Ticket
    asked: float


class Replanner:
    """Keeps the action queue filled: asks for a chunk once Ta actions were consumed since the last
    one was asked for, or none is left; for one at a time, until it is given up.

    refusal: why the newest chunk was not used, or did not come, or "".
    """

    def __init__(
        self,
        inference: Inference,
        queue: ChunkQueue,
        action: ActionSpec,
        config: ResolvedLoopConfig,
        report: Report,
        log: Callable[[str], None],
    ) -> None:
        self.refusal = ""
        self._inference, self._queue, self._action = inference, queue, action
        self._config, self._report, self._log = config, report, log
        self._replan = config.n_action_steps or inference.spec.window.n_action_steps
        self._pending: Pending | None = None
        self._asked_at: int | None = None  # actions consumed when it was asked; None: ask again
        self._delays: deque[int] = deque(maxlen=REMEMBERED)  # of the newest answers, in actions

    def reset(self) -> None:
        """Drop the queue and whatever is on its way: a new epoch."""
        self._queue.reset()
        self._pending = self._asked_at = None
        self.refusal = ""

    def ask(self, observations: ObservationBuffer, now: float) -> bool:
        """Ask for a chunk, if one is due; whether it was."""
        if self._pending is not None:
            if now - self._pending.asked <= self._config.inference_timeout:
                return False
            self._report.counts["inference_timeouts"] += 1
            self._pending = self._asked_at = None
        if not self._is_due() or observations.latest is None:
            return False
        ticket = self._queue.ticket(observations.latest.time)
        self._pending, self._asked_at = Pending(ticket, now), self._queue.consumed
        self._report.counts["requests"] += 1
        delay = self._delay()
        if not self._queue.can_bridge(delay):
            self._report.counts["delays_too_long"] += 1
        known = self._queue.known(delay)
        self._inference.submit(Request(ticket, observations.stacked(), known))
        return True

    def receive(self, now: float, measured: Floats | None) -> None:
        """Take in all answers that are there; measured: where the robot is [A], if it is known.

        Raises InferenceDied.
        """
        while (result := self._inference.poll()) is not None:
            pending = self._pending
            awaited = pending is not None and result.ticket == pending.ticket
            if awaited:
                self._pending = None
            if result.lost:
                self._report.counts["requests_lost"] += 1
                if awaited:  # the plan goes on; another request is due, which sees what is then
                    self._asked_at = None
                    self._tell_lost(result.error)
                continue
            if awaited and pending is not None:
                self._delays.append(round((now - pending.asked) / self._config.dt))
            self._report.sample("inference", result.seconds)
            self._consider(result, now, awaited, measured)

    def _tell_lost(self, error: str) -> None:
        """Say why there is no chunk: at once, and as the reason of the hold that may follow."""
        reason = f"no chunk from the policy server: {error}"
        if error and reason != self.refusal:
            self.refusal = reason
            self._log(reason)

    def _is_due(self) -> bool:
        if not self._queue.left or self._asked_at is None:
            return True
        return self._queue.consumed - self._asked_at >= self._replan

    def _delay(self) -> int:
        """How many actions will run before an answer comes: as many as in the worst of late."""
        return max(self._delays, default=0)

    def _consider(self, result: Result, now: float, awaited: bool, measured: Floats | None) -> None:
        try:
            self._use(result, now, measured)
        except RefusedAction as error:
            self._report.counts["chunks_refused"] += 1
            self._log(f"chunk {result.ticket.chunk_id} refused: {error}")
            if awaited:  # a policy that answers nonsense is not followed any further
                self._queue.clear()
                self.refusal = str(error)

    def _use(self, result: Result, now: float, measured: Floats | None) -> None:
        if result.error:
            raise RefusedAction(result.error)
        beyond = self._config.refuse_beyond
        chunk = check_chunk(result.answer, self._action, beyond, measured)
        before = self._queue.next
        verdict = self._queue.accept(result.ticket, chunk, now)
        self._report.counts[f"chunks_{verdict.name.lower()}"] += 1
        if verdict is Verdict.LATE:
            self.refusal = (
                f"a chunk came too late: {now - result.ticket.observation_time:.2f} s after its "
                f"observation (max_action_lateness is {self._config.max_action_lateness:g} s)"
            )
        if verdict is not Verdict.ACCEPTED:
            return
        self.refusal = ""
        after = self._queue.next
        if before is not None and after is not None:
            jump = nearest_equal(after, before, self._action) - before
            for group, part in by_group(jump, self._action).items():
                self._report.sample(f"seam_jump{group}", float(np.linalg.norm(part)))
