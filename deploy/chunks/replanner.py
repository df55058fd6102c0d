"""When a chunk is asked for, and what becomes of the answers."""

import math
from collections import deque
from collections.abc import Callable

from dipole.deploy.chunks.action_queue import ChunkQueue, Verdict
from dipole.deploy.inference.base import Inference
from dipole.deploy.loop.config import LoopConfig
from dipole.deploy.loop.report import Report
from dipole.deploy.observations.buffer import ObservationBuffer
from dipole.deploy.robots.robot import RobotSpec
from dipole.deploy.safety.chunk_checks import RefusedAction, check_chunk
from dipole.deploy.types import Request, Result, Ticket

REMEMBERED = 10  # latencies from which the next one is estimated


class Replanner:
    """Keeps a plan supplied: asks for a chunk once Ta actions were consumed since the last one was
    asked for, or none is left; for one at a time, until it is given up.

    refusal: why the newest chunk was refused, or "".
    """

    def __init__(
        self,
        inference: Inference,
        plan: ChunkQueue,
        robot: RobotSpec,
        config: LoopConfig,
        report: Report,
        log: Callable[[str], None],
    ) -> None:
        self.refusal = ""
        self._inference, self._plan, self._robot = inference, plan, robot
        self._config, self._report, self._log = config, report, log
        self._replan = config.n_action_steps or inference.spec.window.n_action_steps
        self._waiting: Ticket | None = None
        self._asked = 0.0
        self._asked_at = 0
        self._delays: deque[int] = deque(maxlen=REMEMBERED)  # of the newest answers, in actions

    def reset(self) -> None:
        """Drop the plan and whatever is on its way: a new epoch."""
        self._plan.reset()
        self._waiting = None
        self.refusal = ""

    def ask(self, observations: ObservationBuffer, now: float) -> bool:
        """Ask for a chunk, if one is due; whether it was."""
        if self._waiting is not None and now - self._asked > self._config.inference_timeout:
            self._report.counts["inference_timeouts"] += 1
            self._waiting = None
        due = not self._plan.left or self._plan.consumed - self._asked_at >= self._replan
        if self._waiting is not None or not due or observations.latest is None:
            return False
        self._waiting = self._plan.ticket(observations.latest.time)
        self._asked, self._asked_at = now, self._plan.consumed
        self._report.counts["requests"] += 1
        known = self._plan.known(self._delay())
        self._inference.submit(Request(self._waiting, observations.stacked(), known))
        return True

    def _delay(self) -> int:
        """How many actions will run before an answer comes: as many as in the worst of late."""
        return max(self._delays, default=0)

    def receive(self, now: float) -> None:
        """Take in all answers that are there. Raises InferenceDied."""
        while (result := self._inference.poll()) is not None:
            awaited = result.ticket == self._waiting
            if awaited:
                self._waiting = None
            if result.lost:
                self._report.counts["requests_lost"] += 1
                if awaited:  # the plan goes on; another request is due, which sees what is then
                    self._asked_at = self._plan.consumed - self._replan
                continue
            if awaited:
                self._delays.append(round((now - self._asked) / self._config.dt))
            self._report.sample("inference", result.seconds)
            self._consider(result, now)

    def _consider(self, result: Result, now: float) -> None:
        try:
            self._use(result, now)
        except RefusedAction as error:
            self._report.counts["chunks_refused"] += 1
            self._log(f"chunk {result.ticket.chunk_id} refused: {error}")
            if result.ticket.epoch == self._plan.epoch:
                self._plan.clear()  # a policy that answers nonsense is not followed any further
                self.refusal = str(error)

    def _use(self, result: Result, now: float) -> None:
        if result.error:
            raise RefusedAction(result.error)
        assert self._robot.limits is not None
        beyond = self._config.refuse_beyond
        chunk = check_chunk(result.answer, self._robot.action, self._robot.limits, beyond)
        before = self._plan.next
        verdict = self._plan.accept(result.ticket, chunk, now)
        self._report.counts[f"chunks_{verdict.name.lower()}"] += 1
        if verdict is not Verdict.ACCEPTED:
            return
        self.refusal = ""
        if before is not None and self._plan.next is not None:
            self._report.sample("seam_jump", math.dist(before, self._plan.next))
