"""A recording again: whether the same readings, answers and times give the same commands."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from dipole.data.core.errors import DataError
from dipole.deploy.chunks.action_queue import ChunkQueue
from dipole.deploy.inference.base import NOTHING_KNOWN
from dipole.deploy.loop.clock import VirtualClock
from dipole.deploy.loop.motion import Motion
from dipole.deploy.loop.receding_horizon import RecedingHorizon
from dipole.deploy.loop.report import Report
from dipole.deploy.recording.contents import (
    Begin,
    begin_of,
    explained,
    open_recording,
    reading_of,
    result_of,
)
from dipole.deploy.recording.file_format import Record
from dipole.deploy.recording.plain import from_plain
from dipole.deploy.safety.command_filter import OutsideLimits
from dipole.deploy.types import Arrays, Floats, KnownActions, PolicySpec, Request, Result

# The kinds of records without which the executor, and the motion, cannot go on as they did.
FOR_DECISIONS = {"begin", "act", "result", "state"}
FOR_COMMANDS = {"begin", "act", "command", "state"}


class Verdict(StrEnum):
    """How what was decided or sent then compares with what is now."""

    SAME = "the same"  # to the last bit
    DIFFERENT = "different"
    UNKNOWN = "not made again"  # records are missing before it


@dataclass(frozen=True)
class Replayed:
    """A decision ("act") or a command, and whether it comes out the same again."""

    then: Record
    verdict: Verdict

    @property
    def same(self) -> bool:
        return self.verdict is Verdict.SAME


def replay(path: Path) -> Iterator[Replayed]:
    """Make every decision and every command of a recording again.

    Decisions from what was seen and computed then; commands from what was decided then, and the
    slots in which they were sent. Raises DataError for a file that is damaged, or of format 1.
    """
    begin, records = open_recording(path)
    if begin.format == 1:
        raise DataError(
            f"{path}: made by a dipole whose limits ran at the policy's rate (recording format 1): "
            "its decisions cannot be made again. --export and --mcap work"
        )
    again = _Again(begin)
    for number, record in enumerate(records):
        with explained(f"{path}: record {number} after the beginning"):
            verdict = again.verdict(record)
        if verdict is not None:
            yield Replayed(record, verdict)


class _Again:
    """Executor and motion of a recording, shown its records one by one."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._decidable = self._movable = True
        self._answers = _RecordedAnswers(begin.policy)
        self._renew(None)

    def verdict(self, record: Record) -> Verdict | None:
        """Take in a record; the verdict where it is a decision or a command."""
        missing = set(record.missing)
        self._decidable &= not missing & FOR_DECISIONS
        self._movable &= not missing & FOR_COMMANDS
        if record.kind == "begin":  # another inference, after a reset
            self._begin = begin_of(self._begin.path, self._begin.format, record.values)
            self._answers.spec = self._begin.policy
            self._renew(self._executor.queue)
        elif record.kind == "result":
            self._answers.hear(result_of(record))
        elif record.kind == "state":
            self._state(record.values["state"])
        elif record.kind == "act":
            return self._act(record)
        elif record.kind == "command":
            return self._command(record)
        return None

    def _renew(self, after: ChunkQueue | None) -> None:
        """As the loop does at its beginning and when it is reset."""
        robot, config = self._begin.robot(), self._begin.loop()
        with explained(f"{self._begin.path}: the recording's beginning"):
            report = Report(VirtualClock(), config.control_hz)
            self._executor = RecedingHorizon(
                robot, self._answers, config, report, lambda _line: None, after
            )
            self._motion = Motion(robot, config)

    def _state(self, state: str) -> None:
        if state == "IDLE":
            self._renew(self._executor.queue)
        elif state == "ARMED":  # a run begins
            self._executor.reset()
            self._motion.reset()
            self._movable = True
        elif state == "STOPPING":
            self._motion.hold()

    def _act(self, record: Record) -> Verdict:
        if self._movable:
            self._go(record)
        if not self._decidable:
            return Verdict.UNKNOWN
        again = self._executor.decide(reading_of(record), record.values["now"])
        same = all(
            _is_same(record.arrays.get(name), getattr(again, name))
            for name in ("action", "following", "measured")
        )
        return Verdict.SAME if same else Verdict.DIFFERENT

    def _go(self, record: Record) -> None:
        """What the loop did with this decision."""
        action, measured = record.arrays.get("action"), record.arrays.get("measured")
        if not self._motion.started and measured is not None:
            with suppress(OutsideLimits):  # which ended that run, too
                self._motion.start(measured)
        if action is None:
            self._motion.hold()
        elif not self._motion.started:
            raise ValueError("an action, but it is not known where the robot was")
        else:
            self._motion.follow(action, record.arrays.get("following"))

    def _command(self, record: Record) -> Verdict:
        if not self._movable:
            return Verdict.UNKNOWN
        if not self._motion.started:
            raise ValueError("a command, but it is not known where the robot was")
        again = self._motion.next(from_plain(int, record.values.get("missed", 0)))
        same = _is_same(record.arrays["command"], again.values)
        return Verdict.SAME if same else Verdict.DIFFERENT


def _is_same(then: Floats | None, again: Floats | None) -> bool:
    if then is None or again is None:
        return then is None and again is None
    return np.array_equal(then, again)


class _RecordedAnswers:
    """Answers as they came, each after it was asked for."""

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec
        self._heard: deque[Result] = deque()
        self._asked = 0

    @property
    def notes(self) -> list[str]:
        """Nothing to report."""
        return []

    @property
    def warmed_up(self) -> None:
        """Not kept."""

    def hear(self, result: Result) -> None:
        self._heard.append(result)

    def warm_up(
        self, observation: Arrays, calls: int, known: KnownActions = NOTHING_KNOWN
    ) -> list[float]:
        return []

    def submit(self, request: Request) -> None:
        self._asked = request.ticket.chunk_id

    def poll(self) -> Result | None:
        if self._heard and self._heard[0].ticket.chunk_id <= self._asked:
            return self._heard.popleft()
        return None

    def close(self) -> None:
        pass
