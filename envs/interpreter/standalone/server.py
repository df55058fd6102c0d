"""A simulator in an interpreter of its own: this file is run there.

    python server.py CHANNEL LIFELINE MEMORY      file descriptors, inherited from `process.py`

With the other files beside it, it needs Python 3.8, numpy, msgpack and, for ids of
gymnasium, gymnasium (0.28 or later) or gym; nothing of dipole is imported. On CHANNEL, a socket, it
answers one request after another:

    [name, {argument: value}]  ->  ["ok", result]  or  ["error", {type, message, traceback, ...}]

The first message is JSON: what this interpreter has. MEMORY is a file without a name, for arrays of
replies. When LIFELINE ends, ours has ended, and so does this process, whatever it is doing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Iterator  # noqa: UP035  Python 3.8

if TYPE_CHECKING:
    from dipole.envs.interpreter.standalone import divergence, making, wire
else:  # a script's folder comes first where modules are looked for: only until these are read
    FOLDER = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, FOLDER)
    import divergence
    import making
    import wire

    sys.path[:] = [each for each in sys.path if each != FOLDER]
    for each in ("divergence", "making", "wire"):  # the simulator's modules may be called so
        del sys.modules[each]
with contextlib.suppress(ImportError):  # the greeting says that it is missing
    import numpy as np

TRANSPARENT = ("OrderEnforcing", "PassiveEnvChecker", "TimeLimit")  # wrappers that change no step
OFFERED = ("hold_action", "action_pixels", "action_modes")


class Simulation:
    """The environment of this process. Its public methods are the requests."""

    def __init__(self) -> None:
        self._environment: Any = None
        self._advancing: Any = None  # what can step without looking
        self._limit: int | None = None  # of the wrappers around it
        self._steps, self._seen = 0, None
        self._diverged: Callable[[], bool] = lambda: False

    def make(self, name: str = "", file: str | None = None, **arguments: Any) -> dict[str, Any]:
        """Of an id of gymnasium, without prefix, or of a file's function `make`: what it is."""
        made = making.by_file(file, **arguments) if file else making.by_id(name, **arguments)
        self._environment, versions = made
        limits, inner = [], self._environment
        while type(inner).__name__ in TRANSPARENT and hasattr(inner, "env"):
            limits.append(getattr(inner, "_max_episode_steps", None))
            inner = inner.env
        self._limit = min([each for each in limits if each], default=None)
        both = callable(getattr(inner, "advance", None)) and callable(
            getattr(inner, "observe", None)
        )
        self._advancing = inner if both else None
        offered = partial(divergence.offered, self._environment)
        metadata = getattr(self._environment, "metadata", None) or {}
        return {
            "observation_space": describe(self._environment.observation_space),
            "action_space": describe(self._environment.action_space),
            "metadata": wire.plain(dict(metadata), lenient=True),
            "render_mode": _text(offered("render_mode")),
            "dt": _number(offered("dt")),
            "tasks": _texts(offered("tasks")),
            "max_steps": self._most_steps(offered),
            "offers": [name for name in OFFERED if callable(offered(name))],
            "versions": versions,
        }

    def _most_steps(self, offered: Callable[[str], Any]) -> int | None:
        """Of an episode, where the environment or a wrapper around it says so."""
        limits = [self._limit, offered("max_steps")]
        return min((each for each in limits if type(each) is int), default=None)

    def reset(self, seed: int | None, options: dict[str, Any] | None) -> list[Any]:
        given = {} if options is None else {"options": options}
        divergence.forget(self._environment)
        observation, info = self._environment.reset(seed=seed, **given)
        self._steps, self._seen = 0, observation
        self._diverged = divergence.watched(self._environment)
        self._check_state()
        return [wire.plain(observation), wire.plain(info, lenient=True)]

    def step(self, action: Any) -> list[Any]:
        self._seen, reward, terminated, truncated, info = self._environment.step(action)
        return [wire.plain(self._seen), *self._told(reward, terminated, truncated, info)]

    def advance(self, action: Any) -> list[Any]:
        """A step whose observation stays here until it is asked for: pictures are costly."""
        finite = True
        if self._advancing is None:
            self._seen, reward, terminated, truncated, info = self._environment.step(action)
            finite = divergence.is_finite(self._seen)
        else:
            reward, terminated, truncated, info = self._advancing.advance(action)
        return [*self._told(reward, terminated, truncated, info), finite]

    def _told(self, reward: Any, terminated: Any, truncated: Any, info: Any) -> list[Any]:
        """Of a step that was made, within the time limit of the wrappers that `advance` passes."""
        self._steps += 1
        self._check_state()
        over = bool(truncated) or (self._limit is not None and self._steps >= self._limit)
        return [float(reward), bool(terminated), over, wire.plain(info, lenient=True)]

    def _check_state(self) -> None:
        if self._diverged():
            raise divergence.DivergedError("the simulator says that its state is not finite")

    def observe(self) -> Any:
        return wire.plain(self._seen if self._advancing is None else self._advancing.observe())

    def render(self) -> Any:
        return self._environment.render()

    def call(self, method: str, arguments: list[Any]) -> Any:
        """One of OFFERED."""
        if method not in OFFERED:
            raise ValueError(f"method {method!r} is not offered")
        return divergence.offered(self._environment, method)(*arguments)

    def close(self) -> None:
        environment, self._environment = self._environment, None
        if environment is not None:
            environment.close()


REQUESTS = ("make", "reset", "step", "advance", "observe", "render", "call", "close")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Any) -> list[str]:
    """Of a list of texts; empty for anything else."""
    listed = isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)
    return list(value) if listed else []


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def describe(space: Any) -> dict[str, Any]:
    """A space in plain values, by the name of its class: gymnasium's, gym's or one's own."""
    kind = type(space).__name__
    if kind not in SPACES:
        return {"kind": "other", "text": repr(space)}
    return {"kind": kind, **SPACES[kind](space)}


SPACES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Box": lambda space: {
        "low": np.asarray(space.low),
        "high": np.asarray(space.high),
        "dtype": np.dtype(space.dtype).str,
    },
    "Discrete": lambda space: {"n": int(space.n), "start": int(getattr(space, "start", 0))},
    "MultiDiscrete": lambda space: {"nvec": np.asarray(space.nvec)},
    "MultiBinary": lambda space: {"shape": [int(length) for length in space.shape]},
    "Text": lambda space: {"length": int(space.max_length)},
    "Dict": lambda space: {"spaces": {str(k): describe(each) for k, each in space.spaces.items()}},
    "Tuple": lambda space: {"spaces": [describe(each) for each in space.spaces]},
}


def greeting() -> dict[str, Any]:
    """What this interpreter has: its version, numpy's, and which modules are missing."""
    missing = wire.missing()
    numpy_version = None if "numpy" in missing else np.__version__
    python = "{}.{}.{}".format(*sys.version_info)
    return {"dipole": 1, "python": python, "numpy": numpy_version, "missing": missing}


def serve(channel: wire.Channel, memory: wire.Memory) -> None:
    """Answer requests until there are no more."""
    simulation = Simulation()
    try:
        while True:
            data = channel.receive()
            if data is None:
                return
            channel.send(_reply(simulation, data, memory))
    finally:
        with contextlib.suppress(Exception):
            simulation.close()


def _reply(simulation: Simulation, data: bytes, memory: wire.Memory) -> bytes:
    try:
        name, arguments = wire.unpack(data)
        if name not in REQUESTS:
            raise ValueError(f"request {name!r} is unknown")
        return wire.pack(["ok", getattr(simulation, name)(**arguments)], memory)
    except (Exception, SystemExit) as error:
        return wire.pack(["error", _described(error)])


def _described(error: BaseException) -> dict[str, Any]:
    """What was raised, as texts. missing: the module that was not found, if it is that."""
    kind, chain = type(error), list(_causes(error))
    missing = [each.name for each in chain if isinstance(each, ModuleNotFoundError)]
    lines = traceback.format_exception(kind, error, error.__traceback__)
    described = {
        "type": kind.__name__,
        "module": kind.__module__,
        "message": str(error),
        "traceback": "".join(lines)[-8000:],
        "diverged": divergence.is_divergence(error),
        "missing": missing[-1] if missing and isinstance(error, (ImportError,)) else None,
    }
    return {
        key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for key, value in described.items()
    }


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def watch(lifeline: int) -> None:
    """End this process, and what it started, when the lifeline ends.

    A thread reads it. Where Python's code gets no turn, since the simulator computes without
    releasing the interpreter's lock, Linux itself sends SIGIO, which ends the process.
    """

    def wait() -> None:
        while os.read(lifeline, 1):
            pass
        if os.getsid(0) == os.getpgrp():  # a group of its own, as `process.py` starts it
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    if hasattr(os, "O_ASYNC") and sys.platform == "linux":
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)


def main(arguments: list[str]) -> int:
    descriptors = [int(each) for each in arguments]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # processes of the simulator leave them alone
    connection, lifeline, memory = descriptors
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = wire.Channel(socket.socket(fileno=connection))
    told = greeting()
    channel.send(json.dumps(told).encode())
    if told["missing"] or sys.version_info < wire.OLDEST:
        return 1
    watch(lifeline)
    serve(channel, wire.Memory(memory))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
