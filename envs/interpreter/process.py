"""The process of another interpreter: starting it, asking it, and its end.

Three descriptors are passed to it: a socket for requests and replies, the reading end of a pipe
that ends with this process (so that none outlives it), and shared memory without a name. It is the
leader of a session of its own: Ctrl-C reaches the main process alone.
"""

import contextlib
import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.envs.contract import START_SECONDS, STEP_SECONDS
from dipole.envs.errors import DivergedError, RolloutError
from dipole.envs.interpreter.standalone import wire
from dipole.envs.interpreter.standalone.wire import Channel, Memory, WireError, pack, unpack
from dipole.envs.media.headless import prepare_rendering

SERVER = Path(wire.__file__).with_name("server.py")
GRACE_SECONDS = 5.0  # for its end
LOG_BYTES, LOG_LINES = 32 * 1024, 15
SLICE = 1.0  # seconds after which a process that is waited for is looked after
# Of this interpreter, and wrong for another one.
OWN_VARIABLES = ("PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


class RemoteError(RolloutError):
    """What the simulator raised. said: its type, module, message, traceback; missing: a module."""

    def __init__(self, python: str, said: dict[str, Any]) -> None:
        self.said = said
        super().__init__(
            f"the simulator in {python} raised {said['type']}: {said['message']}\n"
            f"{said['traceback']}"
        )


class Interpreter:
    """A process of another Python that runs `standalone/server.py`.

    python: Path or name of the interpreter, as the user gives it.
    timeout: Seconds that an answer may take; None: 60, and 120 until the environment is made.
    Raises ConfigError for an interpreter that cannot serve, and says what it lacks.
    """

    def __init__(self, python: str, timeout: float | None = None) -> None:
        self.python = find_python(python)
        self._timeout = timeout or STEP_SECONDS
        self._start_timeout = max(START_SECONDS, self._timeout)
        self._failure: str | None = None
        ours, theirs = socket.socketpair()
        ended, lifeline = os.pipe()
        shared = _shared_file()
        try:
            self._process = self._started((theirs.fileno(), ended, shared))
        except BaseException:
            ours.close()
            os.close(lifeline)
            os.close(shared)
            raise
        finally:
            theirs.close()
            os.close(ended)
        self._log = _Log(self._process)
        self._memory = Memory(shared)
        self._channel = Channel(ours, self._wait)
        self._deadline = 0.0
        ending = (self._process, self._log, self._memory, ours, (lifeline, shared))
        self.close = weakref.finalize(self, _end, os.getpid(), *ending)
        try:
            self.has = self._greeting()
        except BaseException:
            self.close()
            raise

    def make(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Make the environment: the description of it. Raises RemoteError."""
        made = self.ask("make", arguments, self._start_timeout)
        if not isinstance(made, dict):
            raise self._broken("answered make with no description")
        return made

    def ask(
        self, name: str, arguments: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Any:
        """Its answer to a request. Raises RemoteError for what the simulator raises, DivergedError
        where that says that its state is not finite, and
        RolloutError for its death, for no answer in time, and for one that is none."""
        if self._failure is not None or not self.close.alive:
            raise RolloutError(self._failure or f"the simulator in {self.python} is closed")
        try:
            request = pack([name, dict(arguments or {})])
        except WireError as error:
            raise RolloutError(f"{name} of a simulator in {self.python}: {error}") from error
        try:
            reply = self._exchange(request, name, timeout or self._timeout)
        except RolloutError as error:
            self._failure = str(error)
            raise
        except BaseException:  # interrupted: the next answer would be that to this request
            self.close()
            raise
        if reply[0] == "error" and reply[1].get("diverged"):
            said = reply[1]
            raise DivergedError(f"{said['type']} in {self.python}: {said['message']}")
        if reply[0] == "error":
            raise RemoteError(self.python, reply[1])
        return reply[1]

    def _started(self, descriptors: tuple[int, ...]) -> "subprocess.Popen[bytes]":
        command = [self.python, str(SERVER), *map(str, descriptors)]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=descriptors,
                env=_variables(),
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigError(
                f"environment.python is {self.python!r}, which cannot be started: {error}"
            ) from error

    def _greeting(self) -> dict[str, Any]:
        """What it has. Raises ConfigError where that is not enough."""
        try:
            self._until("start", self._start_timeout)
            data = self._channel.receive()
            told = None if data is None else json.loads(data)
        except (OSError, ValueError):
            told = None
        if not isinstance(told, dict) or told.get("dipole") != 1:
            raise ConfigError(f"environment.python is {self.python!r}{self._no_greeting()}")
        check_version(self.python, str(told["python"]))
        if told["missing"]:
            missing = " and ".join(told["missing"])
            raise ConfigError(
                f"environment.python is {self.python!r}, which lacks {missing}: "
                f"{pip(self.python, *told['missing'])}"
            )
        return told

    def _no_greeting(self) -> str:
        """Why it did not greet: too old to read the server's file, or no Python."""
        self._log.wait(GRACE_SECONDS)
        asked = [self.python, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"]
        try:
            found = subprocess.run(
                asked, capture_output=True, text=True, timeout=20, check=False, env=_variables()
            )
            check_version(self.python, found.stdout.strip())
        except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
            if isinstance(error, ConfigError):
                raise
            return f", which is no Python interpreter{self._log.quoted()}"
        return f", which could not start {SERVER.name}{self._log.quoted()}"

    def _exchange(self, request: bytes, name: str, timeout: float) -> Any:
        """The reply, [kind, what it says]."""
        self._until(name, timeout)
        try:
            self._channel.send(request)
            data = self._channel.receive()
        except OSError:
            data = None
        except WireError as error:
            raise self._broken(f"answered {name} with {error}") from error
        if data is None:
            raise self._death(name)
        try:
            reply = unpack(data, self._memory)
        except WireError as error:
            raise self._broken(f"answered {name} with what is no message: {error}") from error
        kinds = {"ok": object, "error": dict}
        known = isinstance(reply, list) and len(reply) == 2 and reply[0] in ("ok", "error")
        if not known or not isinstance(reply[1], kinds[reply[0]]):
            raise self._broken(f"answered {name} with what is no reply: {reply!r:.80}")
        return reply

    def _until(self, name: str, seconds: float) -> None:
        self._asked, self._allowed = name, seconds
        self._deadline = time.monotonic() + seconds

    def _wait(self) -> None:
        """Until there is something to read. Raises RolloutError at the deadline."""
        descriptor = self._channel.connection
        while True:
            left = self._deadline - time.monotonic()
            if select.select([descriptor], [], [], max(0.0, min(left, SLICE)))[0]:
                return
            if left <= 0:
                raise self._broken(
                    f"has not answered {self._asked} for {self._allowed:g} s, and was ended; "
                    "environment.timeout=SECONDS allows it more"
                )
            if _has_ended(self._process):
                raise self._death(self._asked)

    def _death(self, name: str) -> RolloutError:
        """Of a process that has ended, or closed its socket."""
        _wait_for_end(self._process, GRACE_SECONDS)
        _kill(self._process)
        self._log.wait(GRACE_SECONDS)
        output = self._log.quoted()
        self.close()
        code = self._process.returncode
        how = f"ended with exit code {code}"
        if code < 0:
            how = f"was ended by signal {signal.Signals(-code).name}"
        memory = " (often the end of memory: use fewer workers or n_envs)" if code == -9 else ""
        return RolloutError(f"the simulator in {self.python} {how} during {name}{memory}{output}")

    def _broken(self, what: str) -> RolloutError:
        """Of a process that cannot be spoken with any more: it is ended."""
        output = self._log.quoted()
        _kill(self._process)
        self.close()
        return RolloutError(f"the simulator in {self.python} {what}{output}")


def find_python(python: str) -> str:
    """The absolute path of an interpreter. Raises ConfigError where none can be executed."""
    if sys.platform == "win32":
        raise ConfigError("environment.python needs Linux or macOS: leave it out on Windows")
    if wire.missing():
        raise ConfigError("environment.python needs msgpack here too: pip install 'dipole[serve]'")
    path = os.path.expanduser(python)
    found = path if os.sep in path else shutil.which(path)
    if found is None or not os.path.exists(found):
        raise ConfigError(f"environment.python is {python!r}: there is no such file")
    if os.path.isdir(found):
        inner = os.path.join(found, "bin", "python")
        hint = f", such as {inner}" if os.path.exists(inner) else ""
        raise ConfigError(
            f"environment.python is {python!r}, a folder: name the interpreter in it{hint}"
        )
    if not os.access(found, os.X_OK):
        raise ConfigError(f"environment.python is {python!r}, which is not executable")
    return os.path.abspath(found)  # a virtual environment is where its link is, not its target


def check_version(python: str, version: str) -> None:
    """Raises ConfigError for a Python that is too old, ValueError for what is no version."""
    numbers = tuple(map(int, version.split(".")))
    if numbers[:2] < wire.OLDEST:
        oldest = ".".join(map(str, wire.OLDEST))
        raise ConfigError(
            f"environment.python is {python!r}, Python {version}: {oldest} or later is needed"
        )


def pip(python: str, *requirements: str) -> str:
    """The command that installs something for an interpreter."""
    return shlex.join([python, "-m", "pip", "install", *requirements])


def _variables() -> dict[str, str]:
    """The environment variables of the process."""
    variables = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
    prepare_rendering(variables)
    return {**variables, "PYTHONUNBUFFERED": "1"}  # its last words come before its end


def _shared_file() -> int:
    """The descriptor of an empty file in memory, if possible, that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dipole")
    descriptor, path = tempfile.mkstemp(prefix="dipole")
    os.unlink(path)
    return descriptor


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it has; it stays a zombie if possible, so that its group keeps its number."""
    if not hasattr(os, "waitid") or process.returncode is not None:
        return process.poll() is not None
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, ended) is not None


def _wait_for_end(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    until = time.monotonic() + seconds
    while not _has_ended(process) and time.monotonic() < until:
        time.sleep(0.01)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """The process, and whatever it started and is in its group."""
    if process.returncode is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)


def _end(
    owner: int,
    process: "subprocess.Popen[bytes]",
    log: "_Log",
    memory: Memory,
    connection: socket.socket,
    descriptors: tuple[int, ...],
) -> None:
    """End the process and whatever it started, and close what is shared with it.

    owner: The process that started it; a forked copy of that leaves it alone.
    """
    if os.getpid() != owner:
        return
    connection.close()  # it closes its environment and ends
    _wait_for_end(process, GRACE_SECONDS)
    _kill(process)
    process.wait()
    log.close()
    memory.close()
    for descriptor in descriptors:
        os.close(descriptor)


class _Log:
    """The last that a process prints, collected by a thread."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        self._stream, self._kept = process.stdout, bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Until it has ended, and with it whatever prints into the same."""
        self._thread.join(seconds)

    def quoted(self) -> str:
        """The last lines, to be put behind a message."""
        lines = bytes(self._kept).decode("utf-8", "replace").strip().splitlines()[-LOG_LINES:]
        if not lines:
            return "; it printed nothing"
        return "".join(["; the last that it printed:", *(f"\n    {each}" for each in lines)])

    def close(self) -> None:
        self._thread.join(GRACE_SECONDS)
        if not self._thread.is_alive():
            self._stream.close()

    def _read(self) -> None:
        while data := os.read(self._stream.fileno(), 65536):
            self._kept += data
            del self._kept[:-LOG_BYTES]
