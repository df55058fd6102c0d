"""The flight recorder: what was seen, computed, decided and sent, off the control thread.

The control thread leaves records in a queue; a thread of its own writes them. Where the disk is
full, or too slow, records are dropped and counted, and control goes on.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.deploy.inference.base import NOTHING_KNOWN, Inference
from dipole.deploy.loop.config import LoopConfig
from dipole.deploy.loop.states import State, Transition
from dipole.deploy.recording.appended_file import AppendedFile, open_new
from dipole.deploy.recording.bounded_queue import OVERHEAD, BoundedQueue
from dipole.deploy.recording.file_format import DTYPES, Record, parts
from dipole.deploy.robots.robot import Reading, RobotSpec
from dipole.deploy.safety.command_filter import Command
from dipole.deploy.types import Arrays, Decision, KnownActions, Request, Result

MAX_RECORDS = 10_000  # that may wait for the disk
MAX_BYTES = 256 * 2**20


class Recorder(Protocol):
    """What the loop tells; nothing here may wait."""

    def listen(self, inference: Inference) -> Inference:
        """The same inference, its answers noted."""
        ...

    def act(self, now: float, reading: Reading | None, decision: Decision) -> None: ...

    def command(self, now: float, command: Command, missed: int) -> None: ...

    def state(self, transition: Transition) -> None: ...


class Unfailing:
    """A recorder whose exceptions end no run; failed: how many there were."""

    def __init__(self, recorder: Recorder) -> None:
        self.failed = 0
        self._recorder = recorder

    def listen(self, inference: Inference) -> Inference:
        return self._recorder.listen(inference)

    def act(self, now: float, reading: Reading | None, decision: Decision) -> None:
        with self._counted():
            self._recorder.act(now, reading, decision)

    def command(self, now: float, command: Command, missed: int) -> None:
        with self._counted():
            self._recorder.command(now, command, missed)

    def state(self, transition: Transition) -> None:
        with self._counted():
            self._recorder.state(transition)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.failed += 1


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
    """Appends to a new file at `path`, which is readable up to its last record at every moment.

    robot, config: What the loop runs with.
    dry_run: Whether nothing is sent; such a recording is not exported as demonstrations.
    max_bytes: How much may wait for the disk; what does not fit is dropped.
    armed: Whether the loop was armed; before that, what is recorded is of no run.

    Raises FileExistsError where there is a file, DataError where none can be written. `listen`
    raises ConfigError where the beginning cannot be.
    """

    def __init__(
        self,
        path: Path,
        robot: RobotSpec,
        config: LoopConfig,
        max_bytes: int = MAX_BYTES,
        *,
        dry_run: bool = False,
    ) -> None:
        self.path = path
        self.armed = False
        self._begin = {"robot": asdict(robot), "dry_run": dry_run}
        self._config = config
        self._queue = BoundedQueue(MAX_RECORDS, max_bytes)
        self._causes: list[str] = []
        self._file = AppendedFile(open_new(path))
        self._thread = threading.Thread(target=self._write, daemon=True, name="dipole-recorder")
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many records are not in the file."""
        return self.dropped_by_kind.total()

    @property
    def dropped_by_kind(self) -> Counter[str]:
        """The same, {"act": ..., "command": ..., ...}."""
        return Counter(self._queue.dropped)

    @property
    def problems(self) -> list[str]:
        """What a person has to know of this recording, a line each; empty where it is whole."""
        if not self.dropped:
            return []
        kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(self.dropped_by_kind.items()))
        cause = "; ".join(self._causes) or "the disk was too slow"
        return [f"{self.path}: {self.dropped} records are missing ({kinds}): {cause}"]

    def listen(self, inference: Inference) -> Inference:
        spec, loop = inference.spec, self._config.resolved(inference.spec)
        times = {"wall_time": time.time(), "monotonic_time": time.monotonic()}
        described = {"loop": asdict(loop), "policy": asdict(spec)}
        begin = Record("begin", self._begin | times | described)
        try:
            parts(begin)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{self.path}: what a recording begins with cannot be written ({error}), and "
                "without it nothing after it means anything. Declare the robot's spec and the "
                "settings with texts, numbers and tuples of them; or record nothing (record=false)"
            ) from None
        self._note(begin)
        return _Listened(inference, self)

    def act(self, now: float, reading: Reading | None, decision: Decision) -> None:
        values: dict[str, Any] = {"now": now, "hold": decision.hold}
        arrays: dict[str, Any] = {"action": decision.action, "following": decision.following}
        arrays |= {"measured": decision.measured}
        seen: dict[str, Any] = {}
        if reading is not None:
            values |= {"captured": reading.time, "captured_times": dict(reading.times)}
            seen = {f"seen.{name}": value for name, value in reading.values.items()}
        if reading is not None and reading.immutable:
            self._note(Record("act", values), arrays, seen)
        else:
            self._note(Record("act", values), arrays | seen)

    def command(self, now: float, command: Command, missed: int) -> None:
        values = {"now": now, "clamps": command.clamps, "behind": command.behind, "missed": missed}
        self._note(Record("command", values), {"command": command.values})

    def state(self, transition: Transition) -> None:
        self.armed = self.armed or transition.state is State.ARMED
        self._note(Record("state", asdict(transition)))

    def result(self, result: Result) -> None:
        """An answer of inference, whatever it is."""
        values = {"ticket": asdict(result.ticket), "error": result.error, "seconds": result.seconds}
        values |= {"lost": result.lost}
        answer = result.answer if isinstance(result.answer, Mapping) else {}
        self._note(Record("result", values), answer)

    def outcome(self, values: Mapping[str, Any]) -> None:
        """How the task went, {"success": 1.0, "task": "push the T", ...}: plain values."""
        if values:
            self._note(Record("outcome", dict(values)))

    def close(self, timeout: float = 5.0) -> int:
        """Write what waits, for at most `timeout` seconds, and end.

        Returns how many records are not in the file; `problems` says it for a person. Closing again
        waits no longer.
        """
        self._queue.close()
        if not self._queue.given_up:
            self._thread.join(timeout)
        if self._thread.is_alive():
            before = self.dropped
            self._queue.give_up()
            if self.dropped > before:
                self._causes.append(f"the disk did not take them within {timeout:g} s of the end")
        return self.dropped

    def _note(
        self,
        record: Record,
        arrays: Mapping[Any, Any] | None = None,
        immutable: Mapping[Any, Any] | None = None,
    ) -> None:
        """Queue a record with copies of the arrays: a driver may reuse its memory.

        immutable: More arrays, which nobody will write into again.
        """
        try:
            given, fixed = _numbers(arrays or {}), _numbers(immutable or {})
            size = sum(array.nbytes for array in (*given.values(), *fixed.values()))
            if not self._queue.has_room(OVERHEAD + size):
                self._queue.drop(record.kind)  # before anything is copied
                return
            kept = {name: _kept(array) for name, array in given.items()}
            self._queue.put(replace(record, arrays=kept | fixed))
        except Exception as error:  # of no consequence for control
            self._queue.drop(record.kind)
            self._tell(error)

    def _write(self) -> None:
        begin: Record | None = None  # the first record, where the disk did not take it yet
        lost: Counter[str] = Counter()  # since the last record that was written
        while (record := self._queue.get()) is not None:
            lost.update(record.missing)
            if begin is not None and self._append(begin):
                begin = None
            written = begin is None and self._append(replace(record, missing=dict(lost)))
            if written:
                lost.clear()
            elif record.kind == "begin":
                begin = record
            else:
                lost[record.kind] += 1
            self._queue.done(written or record is begin)
        if begin is not None:
            self._queue.drop(begin.kind)
        elif not self._queue.given_up:
            end = Record("end", {"dropped": dict(self.dropped_by_kind)})
            self._append(replace(end, missing=dict(lost + Counter(self._queue.unsaid()))))
        self._file.close()

    def _append(self, record: Record) -> bool:
        try:
            self._file.append(parts(record))
        except Exception as error:  # a full disk, a value that cannot be written, no memory
            self._tell(error)
            return False
        return True

    def _tell(self, error: Exception) -> None:
        cause = f"{type(error).__name__}: {error}"
        if cause not in self._causes and len(self._causes) < 5:
            self._causes.append(cause)


class _Listened:
    """An inference whose answers the recorder hears."""

    def __init__(self, inference: Inference, recorder: FlightRecorder) -> None:
        self.spec = inference.spec
        self._inference, self._recorder = inference, recorder

    @property
    def notes(self) -> list[str]:
        """The inference's own."""
        return self._inference.notes

    @property
    def warmed_up(self) -> Any:
        """The inference's own."""
        return self._inference.warmed_up

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


def _kept(array: NDArray[Any]) -> NDArray[Any]:
    """A copy; of an array that has its own memory and is read-only, itself: nobody changes it."""
    fixed = array.flags.owndata and not array.flags.writeable
    return array if fixed else array.copy()


def _numbers(arrays: Mapping[Any, Any]) -> dict[str, NDArray[Any]]:
    """What of them can be recorded: the rest was refused, and its refusal is recorded."""
    found = {}
    for name, value in arrays.items():
        with contextlib.suppress(TypeError, ValueError):
            array = np.asarray(value)
            if array.dtype.newbyteorder("<").str in DTYPES:
                found[str(name)] = array
    return found
