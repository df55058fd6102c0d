"""What is said over a connection: dipole's protocol, or openpi's, as the greeting shows."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from dipole.data.errors import ConfigError
from dipole.data.registry import nearest
from dipole.data.window_spec import WindowSpec
from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.inference.link import Link, LinkLost
from dipole.deploy.inference.remote_config import OpenpiTerms
from dipole.deploy.robots.robot import RobotSpec
from dipole.deploy.types import PolicySpec, Request, Result
from dipole.deploy.wire.codec import MessageError, pack
from dipole.deploy.wire.protocol import (
    ProtocolError,
    computing_seconds,
    is_ours,
    read_answer,
    read_greeting,
    request_message,
)

FIRST_SECONDS = 120.0  # a large policy's first chunk may have to be compiled


class Dialect(Protocol):
    """Between the loop's requests and a server's messages."""

    async def learn(self, link: Link) -> PolicySpec:
        """What the policy sees and does."""
        ...

    def is_same(self, greeting: Any) -> bool:
        """Whether a server that greets like this is the one from before."""
        ...

    def encode(self, request: Request) -> bytes: ...

    def decode(self, message: Any, request: Request, seconds: float) -> Result:
        """Raises MessageError; the result's ticket says whether it answers the request."""
        ...

    def computing(self, message: Any) -> float | None:
        """Seconds that the server says it took."""
        ...


def choose_dialect(greeting: Any, robot: RobotSpec | None, openpi: OpenpiTerms | None) -> Dialect:
    """By a server's first message. Raises ConfigError where openpi's needs to be told more."""
    if is_ours(greeting):
        return DipoleDialect(greeting)
    if robot is None:
        raise ConfigError(
            "the server is none of dipole's. If it is openpi's, give robot=..., the robot's spec"
        )
    return OpenpiDialect(robot, openpi or OpenpiTerms())


class DipoleDialect:
    """Windows with tickets; see protocol.py."""

    def __init__(self, greeting: Mapping[str, Any]) -> None:
        self._schema = read_greeting(greeting)

    async def learn(self, _link: Link) -> PolicySpec:
        return self._schema.spec

    def is_same(self, greeting: Any) -> bool:
        with contextlib.suppress(ProtocolError):
            return is_ours(greeting) and read_greeting(greeting) == self._schema
        return False

    def encode(self, request: Request) -> bytes:
        return pack(request_message(request))

    def decode(self, message: Any, request: Request, seconds: float) -> Result:
        if isinstance(message, str):
            return Result(request.ticket, None, seconds, f"the server: {message[:1000]}")
        return read_answer(message, seconds)

    def computing(self, message: Any) -> float | None:
        return computing_seconds(message)


class OpenpiDialect:
    """Single observations, answered in turn; how long a chunk is, is learnt from the first."""

    def __init__(self, robot: RobotSpec, terms: OpenpiTerms) -> None:
        self._robot, self._terms = robot, terms
        given = dict(terms.observation)
        self._keys = given or {f"observation/{name}": name for name in robot.observation}
        for key, name in self._keys.items():
            if name not in robot.observation:
                hint = nearest(name, list(robot.observation)) or ";"
                raise ConfigError(
                    f"openpi.observation.{key} is {name!r}{hint} the robot has "
                    + ", ".join(robot.observation)
                )

    async def learn(self, link: Link) -> PolicySpec:
        channels = {name: self._robot.observation[name] for name in self._keys.values()}
        nothing = {name: np.zeros(c.shape, c.dtype) for name, c in channels.items()}
        until = time.monotonic() + FIRST_SECONDS
        try:
            await link.send(pack(self._said(nothing)), until)
            actions = _actions(await link.receive(until))
        except (LinkLost, MessageError, asyncio.CancelledError) as error:
            raise InferenceDied(f"the openpi server gave no first chunk: {error}") from None
        horizon, size = actions.shape
        steps = self._terms.n_action_steps or max(1, horizon // 2)
        shapes = {name: channel.shape for name, channel in channels.items()}
        return PolicySpec(shapes, size, WindowSpec(1, horizon, steps))

    def is_same(self, greeting: Any) -> bool:
        return not is_ours(greeting)

    def encode(self, request: Request) -> bytes:
        return pack(self._said({name: v[-1] for name, v in request.observation.items()}))

    def decode(self, message: Any, request: Request, seconds: float) -> Result:
        return Result(request.ticket, {"action": _actions(message)}, seconds)

    def computing(self, message: Any) -> float | None:
        return computing_seconds(message)

    def _said(self, seen: Mapping[str, np.ndarray]) -> dict[str, Any]:
        said: dict[str, Any] = {key: seen[name] for key, name in self._keys.items()}
        return said if self._terms.prompt is None else {**said, "prompt": self._terms.prompt}


def _actions(message: Any) -> np.ndarray:
    """[H, A] of an answer; a text is a traceback of the server's, of which the last line counts."""
    if isinstance(message, str):
        raise MessageError(f"it says {(message.strip().splitlines() or [''])[-1][:500]}")
    actions = message.get("actions") if isinstance(message, Mapping) else None
    if not isinstance(actions, np.ndarray) or actions.ndim != 2:
        raise MessageError("it has no 'actions' of shape [H, A]")
    return actions
