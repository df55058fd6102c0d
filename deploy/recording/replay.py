"""A recording again: whether the same readings, answers and times give the same decisions."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from dipole.data.errors import DataError
from dipole.deploy.loop.clock import VirtualClock
from dipole.deploy.loop.receding_horizon import RecedingHorizon
from dipole.deploy.loop.report import Report
from dipole.deploy.recording.contents import (
    Begin,
    explained,
    open_recording,
    reading_of,
    result_of,
)
from dipole.deploy.recording.file_format import Record
from dipole.deploy.types import Arrays, Decision, PolicySpec, Request, Result

NEEDED = {"act", "result", "state"}  # without these kinds, what follows cannot be decided


class Verdict(StrEnum):
    """How what was decided then compares with what is decided now."""

    SAME = "the same"  # to the last bit
    DIFFERENT = "different"
    UNKNOWN = "not decided again"  # records are missing before it


@dataclass(frozen=True)
class Replayed:
    """One record of a recording, and whether it comes out the same again."""

    then: Record
    verdict: Verdict

    @property
    def same(self) -> bool:
        return self.verdict is Verdict.SAME


def replay(path: Path) -> Iterator[Replayed]:
    """Decide everything in a recording again, from what was seen and computed then.

    Raises DataError for a file that is damaged, or of format 1.
    """
    begin, records = open_recording(path)
    if begin.format == 1:
        raise DataError(
            f"{path}: made by a dipole whose limits ran at the policy's rate (recording format 1): "
            "its decisions cannot be made again. --export and --mcap work"
        )
    decisions = _Decisions(begin)
    for number, record in enumerate(records):
        with explained(f"{path}: record {number} after the beginning"):
            decisions.missing |= bool(NEEDED & set(record.missing))
            verdict = decisions.verdict(record)
        if verdict is not None:
            yield Replayed(record, verdict)


class _Decisions:
    """The executor of a recording, shown its records one by one.

    missing: Whether a record was dropped that the executor would have needed.
    """

    def __init__(self, begin: Begin) -> None:
        self.missing = False
        self._answers = _RecordedAnswers(begin.policy)
        config = begin.loop()
        with explained(f"{begin.path}: the recording's beginning"):
            report = Report(VirtualClock(), config.control_hz)
            self._executor = RecedingHorizon(
                begin.robot(), self._answers, config, report, lambda _line: None
            )

    def verdict(self, record: Record) -> Verdict | None:
        """Take in a record; the verdict where it is a decision."""
        if record.kind == "result":
            self._answers.hear(result_of(record))
        elif record.kind == "state" and record.values["state"] in ("IDLE", "ARMED"):
            self._executor.reset()  # as `reset` and `run` do
        elif record.kind == "act":
            return self._decided_again(record)
        return None

    def _decided_again(self, record: Record) -> Verdict:
        if self.missing:
            return Verdict.UNKNOWN
        last = record.arrays.get("last")
        again = self._executor.decide(reading_of(record), record.values["now"], last)
        return Verdict.SAME if _is_same(record, again) else Verdict.DIFFERENT


def _is_same(then: Record, again: Decision) -> bool:
    was = then.arrays.get("action")
    if was is None or again.action is None:
        return was is None and again.action is None
    return bool(np.array_equal(was, again.action))


class _RecordedAnswers:
    """Answers as they came, each after it was asked for."""

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec
        self._heard: deque[Result] = deque()
        self._asked = 0

    def hear(self, result: Result) -> None:
        self._heard.append(result)

    def warm_up(self, observation: Arrays, calls: int) -> None:
        pass

    def submit(self, request: Request) -> None:
        self._asked = request.ticket.chunk_id

    def poll(self) -> Result | None:
        if self._heard and self._heard[0].ticket.chunk_id <= self._asked:
            return self._heard.popleft()
        return None

    def close(self) -> None:
        pass
