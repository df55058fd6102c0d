"""One job of a sweep, in a process of its own.

What ends one job (no memory left, a library that aborts) leaves the others alone. It stops where
its input closes, because who started it was interrupted or killed; and who started it, on whatever
machine, stops it where the sweep's folder says so.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from dipole.apps.compose.outcome import Outcome

PATIENCE = 60.0  # seconds for an interrupted job to save what it has
LOOK = 0.25  # seconds between looks at whether the sweep is to stop
RUNNING, DONE, FAILED, INTERRUPTED = "running", "done", "failed", "interrupted"


class Stop:
    """The word that ends a sweep's jobs, wherever they run: a file in the folder of their states.

    waiting_here: whether this very process waits for a job.
    """

    waiting_here = False

    def __init__(self, states: Path) -> None:
        self._file = states / "stop"

    def ask(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.touch()

    def asked(self) -> bool:
        return self._file.exists()


@dataclass(frozen=True)
class JobState:
    """What is known of a job; a file while the sweep runs, a row of sweep.json afterwards.

    overrides: what sets it apart. message: why it failed. seconds: that it took.
    """

    job: int
    overrides: dict[str, Any]
    output: str
    state: str = RUNNING
    score: float | None = None
    score_name: str = ""
    message: str = ""
    seconds: float = 0.0
    pid: int = 0
    host: str = ""

    def write(self, folder: Path) -> None:
        """Whole, or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f"{self.job}.partial"
        beside.write_text(json.dumps(asdict(self)))
        beside.replace(folder / f"{self.job}.json")


@dataclass(frozen=True)
class JobRequest:
    """function: "module:name". result: the file that says what came of it."""

    command: str
    function: str
    config: dict[str, Any]
    result: str


def run_in_process(request: JobRequest, state: JobState, states: Path, log: Path) -> JobState:
    """Start the job, say so, wait, and say what came of it. Interrupts are passed on.

    states: folder of the states of all jobs. log: file of what the job prints.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("ab") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "dipole.apps.compose.job"],
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C reaches it through us, once
        )
    assert process.stdin is not None
    state = replace(state, pid=process.pid, host=socket.gethostname())
    try:
        state.write(states)
        say(f"job {state.job} started: {described(state.overrides)} ({log})")
        with contextlib.suppress(BrokenPipeError):  # it ended at once; its log says why
            process.stdin.write(json.dumps(asdict(request)).encode() + b"\n")
            process.stdin.flush()
        Stop.waiting_here = True
        _wait(process, Stop(states))
    except BaseException:
        _interrupt(process)
        replace(state, state=INTERRUPTED, seconds=time.monotonic() - started).write(states)
        say(f"job {state.job} interrupted")
        raise
    finally:
        Stop.waiting_here = False
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    ended = replace(state, seconds=time.monotonic() - started, **_result(request, process))
    ended.write(states)
    say(f"job {ended.job} {summary(ended)}")
    return ended


def _wait(process: "subprocess.Popen[bytes]", stop: Stop) -> None:
    """Raises KeyboardInterrupt where the sweep is to stop meanwhile."""
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOK)
        if process.returncode is None and stop.asked():
            raise KeyboardInterrupt


def _interrupt(process: "subprocess.Popen[bytes]") -> None:
    """Let it save what it has; a second interrupt, or patience at its end, kills it."""
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait(PATIENCE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def _result(request: JobRequest, process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    path = Path(request.result)
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        path.unlink()
    except (OSError, ValueError):
        code = process.returncode
        return {"state": FAILED, "message": _death(code)}
    return result


def _death(code: int) -> str:
    """Why a process left no result."""
    if code >= 0:
        return f"it ended with exit code {code} before its end"
    name = signal.Signals(-code).name
    if name == "SIGKILL":
        return (
            "killed by SIGKILL, as the system does where memory runs out: run fewer jobs at once "
            "(hydra.launcher.n_jobs), or smaller ones"
        )
    return f"killed by {name}"


def summary(state: JobState) -> str:
    """ "done in 12 s: validation loss 0.0412"."""
    text = state.state + (f" after {state.seconds:.0f} s" if state.pid else "")
    if state.score is not None:
        text += f": {state.score_name or 'score'} {state.score:.6g}"
    return f"{text}: {state.message}" if state.message else text


def described(overrides: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in overrides.items()) or "no settings"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """The job's own process."""
    request = JobRequest(**json.loads(_read_line()))
    threading.Thread(target=_interrupt_when_alone, daemon=True).start()
    result = _perform(request)
    sys.stdout.flush()
    path = Path(request.result)
    beside = path.with_suffix(".unfinished")
    beside.write_text(json.dumps(result))
    beside.replace(path)
    return 0 if result["state"] == DONE else 1


def _perform(request: JobRequest) -> dict[str, Any]:
    from dipole.apps.compose.application import set_waiting_policy
    from dipole.apps.terminal.errors import UsageError

    set_waiting_policy(request.command, request.config)
    module, _, name = request.function.partition(":")
    try:
        outcome = Outcome.of(getattr(import_module(module), name)(request.config))
    except KeyboardInterrupt:
        return {"state": INTERRUPTED}
    except Exception as error:
        from dipole.data.core.errors import DipoleError

        if isinstance(error, DipoleError | UsageError):
            print(error, file=sys.stderr)
            return {"state": FAILED, "message": str(error)}
        traceback.print_exc()
        return {"state": FAILED, "message": f"{type(error).__name__}: {error}"}
    if outcome.code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        return {"state": INTERRUPTED}
    if outcome.code:
        return {"state": FAILED, "message": f"exit code {outcome.code}"}
    return {"state": DONE, "score": outcome.score, "score_name": outcome.score_name}


def _read_line() -> bytes:
    """From the descriptor itself: a buffer would be locked by the thread that reads on."""
    line = bytearray()
    while not line.endswith(b"\n"):
        part = os.read(0, 1 << 16)
        if not part:
            sys.exit("a job is started by `dipole ... --multirun`, not by hand")
        line += part
    return bytes(line)


def _interrupt_when_alone() -> None:
    while os.read(0, 1):
        pass
    if os.name == "posix":
        os.kill(os.getpid(), signal.SIGINT)
    else:
        import _thread

        _thread.interrupt_main()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell's jobs ignore it
    sys.exit(main())
