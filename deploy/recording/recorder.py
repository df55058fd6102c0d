"""The flight recorder: what was seen, computed, decided and sent, off the control thread.

The control thread leaves records in a queue; a thread of its own writes them. Where the disk is
full, or too slow, records are dropped and counted, and control goes on.
"""

import contextlib
import queue
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dipole.deploy.inference.base import NOTHING_KNOWN, Inference
from dipole.deploy.loop.config import LoopConfig
from dipole.deploy.loop.states import Transition
from dipole.deploy.recording.file_format import MAGIC, Record, pack
from dipole.deploy.robots.robot import Reading, RobotSpec
from dipole.deploy.safety.command_filter import Command
from dipole.deploy.types import Arrays, Decision, KnownActions, Request, Result

QUEUED = 10_000  # records that may wait for the disk


class Recorder(Protocol):
    """What the loop tells; nothing here may wait."""

    def listen(self, inference: Inference) -> Inference:
        """The same inference, its answers noted."""
        ...

    def act(self, now: float, reading: Reading | None, decision: Decision) -> None: ...

    def command(self, now: float, command: Command, missed: int) -> None: ...

    def state(self, transition: Transition) -> None: ...


class NoRecorder:
    """Keeps nothing."""

    def listen(self, inference: Inference) -> Inference:
        return inference

    def act(self, *_: Any) -> None:
        pass

    def command(self, *_: Any) -> None:
        pass

    def state(self, _transition: Transition) -> None:
        pass


class FlightRecorder:
    """Appends to a new file at `path`. dropped: how many records are not in it.

    Raises FileExistsError where there is one.
    """

    def __init__(self, path: Path, robot: RobotSpec, config: LoopConfig) -> None:
        self.dropped = 0
        self._robot, self._config = robot, config
        self._file = path.open("xb", buffering=0)
        self._file.write(MAGIC)
        self._queue: queue.Queue[Record | None] = queue.Queue(QUEUED)
        self._thread = threading.Thread(target=self._write, daemon=True, name="dipole-recorder")
        self._thread.start()

    def listen(self, inference: Inference) -> Inference:
        policy, loop = asdict(inference.spec), asdict(self._config.resolved(inference.spec))
        described = {"robot": asdict(self._robot), "loop": loop, "policy": policy}
        self._note(Record("begin", described))
        return _Listened(inference, self)

    def act(self, now: float, reading: Reading | None, decision: Decision) -> None:
        values: dict[str, Any] = {"now": now, "hold": decision.hold}
        arrays: dict[str, Any] = {"action": decision.action}
        if reading is not None:
            values |= {"captured": reading.time, "captured_times": dict(reading.times)}
            # Copied: a driver may reuse its memory before this is written.
            arrays |= {f"seen.{name}": np.array(value) for name, value in reading.values.items()}
        given = {name: array for name, array in arrays.items() if array is not None}
        self._note(Record("act", values, given))

    def command(self, now: float, command: Command, missed: int) -> None:
        values = {"now": now, "clamps": command.clamps, "behind": command.behind, "missed": missed}
        self._note(Record("command", values, {"command": command.values}))

    def state(self, transition: Transition) -> None:
        self._note(Record("state", asdict(transition)))

    def result(self, result: Result) -> None:
        """An answer of inference, whatever it is."""
        values = {"ticket": asdict(result.ticket), "error": result.error, "seconds": result.seconds}
        values |= {"lost": result.lost}
        self._note(Record("result", values, _arrays(result.answer)))

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, and end."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout)
        self._thread.join(timeout)

    def _note(self, record: Record) -> None:
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        with self._file:
            while (record := self._queue.get()) is not None:
                self._append(record)

    def _append(self, record: Record) -> None:
        """All of the record, or none of it."""
        end = self._file.tell()
        try:
            data = memoryview(pack(record))
            while data:
                data = data[self._file.write(data) :]
        except (OSError, TypeError, ValueError):
            self.dropped += 1
            with contextlib.suppress(OSError):
                self._file.seek(end)
                self._file.truncate()


class _Listened:
    """An inference whose answers the recorder hears."""

    def __init__(self, inference: Inference, recorder: FlightRecorder) -> None:
        self.spec = inference.spec
        self._inference, self._recorder = inference, recorder

    def warm_up(
        self, observation: Arrays, calls: int, known: KnownActions = NOTHING_KNOWN
    ) -> list[float]:
        return self._inference.warm_up(observation, calls, known)

    def submit(self, request: Request) -> None:
        self._inference.submit(request)

    def poll(self) -> Result | None:
        result = self._inference.poll()
        if result is not None:
            self._recorder.result(result)
        return result

    def close(self) -> None:
        self._inference.close()


def _arrays(answer: Any) -> dict[str, np.ndarray]:
    """What of an answer is numbers: the rest was refused, and its refusal is noted."""
    found = {}
    if isinstance(answer, dict):
        for name, value in answer.items():
            with contextlib.suppress(ValueError):
                array = np.asarray(value)
                if array.dtype.kind in "fiub":
                    found[str(name)] = array
    return found
