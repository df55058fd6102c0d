"""Inference on another computer: chunks from a policy server, over a network that may fail.

The control loop sees one more Inference. A request that a connection took with it is answered as
lost, so that the loop asks again with what it sees then; the plan it has goes on meanwhile, and
ends in a hold. Nothing that was asked for on one connection is answered on another.
"""

import contextlib
import math
import secrets
import socket
import threading
import time
from dataclasses import dataclass, fields
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.frames import CloseCode
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from dipole.data.errors import ConfigError, DipoleError
from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.inference.worker import InferenceWorker
from dipole.deploy.loop.report import Samples
from dipole.deploy.robots.robot import RobotSpec
from dipole.deploy.types import Request, Result
from dipole.deploy.wire.codec import MessageError, MessageLimits, unpack
from dipole.deploy.wire.openpi import OpenpiDialect, OpenpiTerms
from dipole.deploy.wire.protocol import (
    CLIENT,
    Dialect,
    DipoleDialect,
    computing_seconds,
    is_ours,
    read_max_message,
)

LIMITS = MessageLimits()
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between connections, until there is a chunk
CLOSE_SECONDS = 0.5
REFUSED = (401, 403, 404)  # HTTP: trying again would not help
REJECTED = {  # the connection ended because of a message: the same message would end the next one
    CloseCode.UNSUPPORTED_DATA,
    CloseCode.INVALID_DATA,
    CloseCode.POLICY_VIOLATION,
    CloseCode.MESSAGE_TOO_BIG,
}
SMALLER = "send fewer or smaller pictures, or raise server.max_message of the server"


class ConnectionLost(DipoleError):  # noqa: N818  it is what happened
    """There is no connection now, and why; there may be one later."""


class RejectedError(MessageError):
    """A message ended the connection, and would end the next one."""


@dataclass(frozen=True)
class ClientConfig:
    """How a client reaches a policy server, in seconds; values are in configs/deploy.yaml.

    start_timeout: for a server to answer at all, at the beginning.
    open_timeout: for one attempt to connect.
    answer_timeout: for an answer, after which the connection is given up.
    ping_interval, ping_timeout: a server that answers no ping is gone, whatever the network says;
        not of openpi's servers, which answer none while they compute.
    """

    start_timeout: float = 10.0
    open_timeout: float = 3.0
    answer_timeout: float = 10.0
    ping_interval: float = 1.0
    ping_timeout: float = 2.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigError(f"{entry.name} is {value!r}; it must be a positive number")


class RemoteInference(InferenceWorker):
    """Has chunks computed by a policy server.

    address: ws://host:port, or ws://host:port/ROBOT; wss:// with TLS. token: the server's.
    robot, openpi: for servers of openpi, which do not say what their policy sees.
    round_trips, computing: seconds, on this computer's clock and as the server says.
    reconnections, stale: how often a connection was made anew, and answers nobody waited for.

    Raises InferenceDied if no server answers within config.start_timeout or it refuses, and
    ConfigError for an address that is none. A server that is lost later is looked for until
    `close`; one that comes back with another policy is a death.
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        *,
        config: ClientConfig | None = None,
        robot: RobotSpec | None = None,
        openpi: OpenpiTerms | None = None,
    ) -> None:
        if not address.startswith(("ws://", "wss://")):
            raise ConfigError(f"server={address}: ws://host:port, or wss://host:port, is needed")
        self.address = address
        self.config = config or ClientConfig()
        self.round_trips, self.computing = Samples(), Samples()
        self.reconnections = self.stale = 0
        self._headers = {CLIENT: secrets.token_hex(16)}
        if token:
            self._headers["Authorization"] = f"Api-Key {token}"  # as openpi's servers expect it
        self._connection: ClientConnection | None = None
        self._closing = threading.Event()
        self._pause = 0.0  # before the next connection
        self._last_loss = ""
        self._pings = True
        try:
            self._dialect = self._begin(robot, openpi)
        except BaseException:
            self._hang_up()
            raise
        super().__init__(self._run)

    @property
    def notes(self) -> list[str]:
        """What a report should say of the network."""
        line = f"server {self.address}: reconnected {self.reconnections} times"
        for name, samples in (("round trip", self.round_trips), ("computing", self.computing)):
            summary = samples.summary(1000.0)
            if summary["count"]:
                line += f", {name} p50 {summary['p50']:.1f} ms, p99 {summary['p99']:.1f} ms"
        return [f"{line}; last lost: {self._last_loss}" if self._last_loss else line]

    def close(self) -> None:
        """End the connection, whatever is on its way."""
        super().close()
        self._closing.set()
        self._hang_up()

    # Requests -----------------------------------------------------------------------------------

    def _run(self, request: Request) -> Result:
        """In the worker's thread. Raises MessageError for a request that cannot be sent."""
        if not self._is_open:
            self._reconnect()
            self.drop_waiting()  # it was asked before there was this connection, as this one was
            return self._lost(request)
        data = self._dialect.encode(request)
        self._check_size(data)
        started = time.monotonic()
        try:
            result = self._ask(data, request, started)
        except ConnectionLost as loss:
            self._hang_up()  # an answer that comes later would be taken for another's
            self._last_loss = str(loss)
            return self._lost(request)
        except MessageError as error:
            self._hang_up()  # what follows cannot be trusted either
            seconds = time.monotonic() - started
            return Result(request.ticket, None, seconds, f"the server's answer: {error}")
        if not result.error:
            self._pause = 0.0
        self.round_trips.add(result.seconds)
        return result

    def _lost(self, request: Request) -> Result:
        return Result(request.ticket, None, 0.0, self._last_loss, lost=True)

    def _ask(self, data: bytes, request: Request, started: float) -> Result:
        """Ask, and wait for the answer to this very request."""
        self._send(data)
        while True:
            message = self._receive(started + self.config.answer_timeout)
            result = self._dialect.decode(message, request, time.monotonic() - started)
            if result.ticket == request.ticket:
                if (computing := computing_seconds(message)) is not None:
                    self.computing.add(computing)
                return result
            self.stale += 1

    def _check_size(self, data: bytes) -> None:
        if self._max_message is not None and len(data) > self._max_message:
            raise MessageError(
                f"the request has {len(data)} bytes, and the server takes {self._max_message}: "
                + SMALLER
            )

    # The connection -----------------------------------------------------------------------------

    def _begin(self, robot: RobotSpec | None, openpi: OpenpiTerms | None) -> Dialect:
        """The first connection; finds out what the policy sees and does."""
        until = time.monotonic() + self.config.start_timeout
        greeting = self._connect(until)
        dialect = _dialect(greeting, robot, openpi)
        if not dialect.pings:
            self._pings = False
            greeting = self._connect(until)
        self._max_message = read_max_message(greeting)
        try:
            self.spec = dialect.learn(self._ask_first)
        except (ConnectionLost, MessageError) as error:
            raise InferenceDied(f"the server at {self.address} gave no chunk: {error}") from None
        return dialect

    def _reconnect(self) -> None:
        """Until it is done. Raises InferenceDied after `close`, or for another policy."""
        while not self._is_open:
            greeting = self._connect(math.inf)
            try:
                same = self._dialect.is_same(greeting)
                same = same and self._dialect.learn(self._ask_first) == self.spec
            except ConnectionLost as loss:
                self._last_loss = str(loss)
                self._hang_up()
                continue
            except MessageError:
                same = False
            if not same:
                raise InferenceDied(
                    f"the server at {self.address} came back with another policy: stop, and begin "
                    "again with it"
                )
            self._max_message = read_max_message(greeting)
        self.reconnections += 1

    def _connect(self, until: float) -> Any:
        """The greeting of a new connection. Raises InferenceDied after `until`, or `close`."""
        self._hang_up()
        while not self._closing.wait(self._pause):
            self._pause = min(max(FIRST_PAUSE, 2 * self._pause), LONGEST_PAUSE)
            try:
                return self._open()
            except ConnectionLost as loss:
                self._hang_up()
                self._last_loss = str(loss)
                if time.monotonic() + self._pause > until:
                    raise InferenceDied(
                        f"no policy server at {self.address} within "
                        f"{self.config.start_timeout:g} s: {loss}"
                    ) from None
        raise InferenceDied("closed")

    def _open(self) -> Any:
        """Raises ConnectionLost, InferenceDied if the server refuses for good, ConfigError."""
        until = time.monotonic() + self.config.open_timeout
        try:
            self._connection = connect(
                self.address,
                additional_headers=self._headers,
                compression=None,
                proxy=None,
                max_size=LIMITS.size,
                open_timeout=self.config.open_timeout,
                ping_interval=self.config.ping_interval if self._pings else None,
                ping_timeout=self.config.ping_timeout,
                close_timeout=CLOSE_SECONDS,
            ).__enter__()  # until `_hang_up`
            self._connection.socket.settimeout(self.config.answer_timeout)  # of sending
        except InvalidStatus as error:
            raise self._refusal(error) from None
        except (InvalidURI, ValueError) as error:
            raise ConfigError(f"server={self.address}: {error}") from None
        except (OSError, WebSocketException) as error:
            raise ConnectionLost(str(error) or "it does not answer") from None
        if self._closing.is_set():
            raise ConnectionLost("closed")
        try:
            greeting = self._receive(until)
        except MessageError as error:
            raise ConnectionLost(f"its greeting: {error}") from None
        if isinstance(greeting, str):
            raise ConnectionLost(f"it greets with a text: {greeting[:200]}")
        return greeting

    def _refusal(self, error: InvalidStatus) -> DipoleError:
        status, body = error.response.status_code, error.response.body
        words = (body or b"").decode(errors="replace").strip()[:500]
        said = f"the server at {self.address} refuses (HTTP {status}): {words}"
        return InferenceDied(said) if status in REFUSED else ConnectionLost(said)

    @property
    def _is_open(self) -> bool:
        return self._connection is not None and self._connection.state is State.OPEN

    def _ask_first(self, data: bytes, seconds: float) -> Any:
        self._send(data)
        return self._receive(time.monotonic() + seconds)

    def _send(self, data: bytes) -> None:
        """Raises ConnectionLost, or RejectedError."""
        try:
            self._present().send(data)
        except ConnectionClosed as closed:
            raise _reason(closed) from None

    def _receive(self, until: float) -> Any:
        """The next message, or text. Raises ConnectionLost, RejectedError, MessageError."""
        try:
            received = self._present().recv(max(0.0, until - time.monotonic()))
        except TimeoutError:
            raise ConnectionLost("no answer came in time") from None
        except ConnectionClosed as closed:
            raise _reason(closed) from None
        return received if isinstance(received, str) else unpack(received, LIMITS)

    def _present(self) -> ClientConnection:
        if self._connection is None:
            raise ConnectionLost("closed")
        return self._connection

    def _hang_up(self) -> None:
        """End the connection, from any thread, and whatever waits for it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # What is being sent holds the connection's lock, and the closing handshake waits for it.
        insist = threading.Timer(CLOSE_SECONDS, _shut_down, [connection])
        insist.daemon = True
        insist.start()
        connection.close()
        insist.cancel()


def _dialect(greeting: Any, robot: RobotSpec | None, openpi: OpenpiTerms | None) -> Dialect:
    """By a server's first message. Raises ConfigError if openpi's needs to be told more."""
    if is_ours(greeting):
        return DipoleDialect(greeting)
    if robot is None:
        raise ConfigError(
            "the server is none of dipole's. If it is openpi's, give robot=..., the robot's spec"
        )
    return OpenpiDialect(greeting, robot, openpi or OpenpiTerms())


def _reason(closed: ConnectionClosed) -> DipoleError:
    """Why the connection is gone: by a message, or by the network or a program's end."""
    codes = {close.code for close in (closed.rcvd, closed.sent) if close is not None}
    if not codes & REJECTED:
        return ConnectionLost(str(closed if codes else closed.__cause__ or closed))
    too_big = closed.rcvd is not None and closed.rcvd.code == CloseCode.MESSAGE_TOO_BIG
    return RejectedError(f"{closed}: {SMALLER}" if too_big else str(closed))


def _shut_down(connection: ClientConnection) -> None:
    """End what blocks in the connection's socket; TLS, if any, needs no farewell."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)
