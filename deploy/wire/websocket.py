"""A client's connection to a policy server: one at a time, and any thread may end it."""

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

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.deploy.wire.codec import MessageError, MessageLimits, unpack
from dipole.deploy.wire.protocol import CLIENT, check_token

LIMITS = MessageLimits()
CLOSE_SECONDS = 0.5
REFUSED = (401, 403, 404)  # HTTP: trying again would not help
OCCUPIED = 409  # HTTP: by another client, perhaps by one that is gone and not missed yet
REJECTED = {  # the connection ended because of a message: the same message would end the next one
    CloseCode.UNSUPPORTED_DATA,
    CloseCode.INVALID_DATA,
    CloseCode.POLICY_VIOLATION,
    CloseCode.MESSAGE_TOO_BIG,
}
SMALLER = "send fewer or smaller pictures, or serve with a larger server.max_message"


class ConnectionLost(DipoleError):  # noqa: N818  it is what happened
    """There is no connection now, and why; there may be one later."""


class Occupied(ConnectionLost):
    """The server is there and has no place for this client; it may have one when another goes."""


class RefusedError(DipoleError):
    """The server wants no connection with this client."""


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
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                raise ConfigError(f"{entry.name} is {value!r}; it must be a positive number")


class WebSocket:
    """Opened, spoken over, lost, and opened anew.

    address: ws://host:port/ROBOT, or wss:// with TLS. token: the server's, if it has one.
    Raises ConfigError for an address or a token that is none; see the methods for the rest.
    """

    def __init__(self, address: str, token: str | None, config: ClientConfig) -> None:
        if not address.startswith(("ws://", "wss://")):
            raise ConfigError(f"server={address}: ws://host:port, or wss://host:port, is needed")
        check_token(token)
        self.address = address
        self._config = config
        self._headers = {CLIENT: secrets.token_hex(16)}
        if token:
            self._headers["Authorization"] = f"Api-Key {token}"  # as openpi's servers expect it
        self._connection: ClientConnection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.state is State.OPEN

    @property
    def ending(self) -> str:
        """How the connection ended, if it was not closed from here."""
        connection = self._connection
        if connection is None or connection.close_code is None:
            return ""
        return f"it ended with code {connection.close_code} {connection.close_reason}".rstrip()

    def open(self, pings: bool) -> Any:
        """A new connection; returns the server's first message.

        pings: whether to ask now and then whether the server is there.
        Raises ConnectionLost, and RefusedError and ConfigError if trying again would not help.
        """
        self.close()
        until = time.monotonic() + self._config.open_timeout
        self._connection = connection = self._connect(pings)
        connection.socket.settimeout(self._config.answer_timeout)  # for a message to be taken
        try:
            greeting = self.receive(until)
        except MessageError as error:
            raise ConnectionLost(f"its greeting: {error}") from None
        if isinstance(greeting, str):
            raise ConnectionLost(f"it greets with a text: {greeting[:200]}")
        return greeting

    def send(self, data: bytes) -> None:
        """Raises ConnectionLost, also if it is not taken in time, and RejectedError."""
        try:
            self._present().send(data)
        except ConnectionClosed as closed:
            raise _reason(closed) from None

    def receive(self, until: float) -> Any:
        """The next message, or text; until: of time.monotonic().

        Raises ConnectionLost, RejectedError, and MessageError for what cannot be read.
        """
        try:
            received = self._present().recv(max(0.0, until - time.monotonic()))
        except TimeoutError:
            raise ConnectionLost("no answer came in time") from None
        except ConnectionClosed as closed:
            raise _reason(closed) from None
        return received if isinstance(received, str) else unpack(received, LIMITS)

    def close(self) -> None:
        """End the connection, and whatever waits for it in other threads."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # A message that is being sent holds a lock that the closing handshake waits for.
        insist = threading.Timer(CLOSE_SECONDS, _shut_down, [connection])
        insist.daemon = True
        insist.start()
        connection.close()
        insist.cancel()

    def _connect(self, pings: bool) -> ClientConnection:
        try:
            return connect(
                self.address,
                additional_headers=self._headers,
                compression=None,
                proxy=None,
                max_size=LIMITS.size,
                open_timeout=self._config.open_timeout,
                ping_interval=self._config.ping_interval if pings else None,
                ping_timeout=self._config.ping_timeout,
                close_timeout=CLOSE_SECONDS,
            ).__enter__()  # it is left by `close`
        except InvalidStatus as error:
            raise self._refusal(error) from None
        except (InvalidURI, ValueError) as error:
            raise ConfigError(f"server={self.address}: {error}") from None
        except (OSError, WebSocketException) as error:
            raise ConnectionLost(str(error) or "it does not answer") from None

    def _present(self) -> ClientConnection:
        if self._connection is None:
            raise ConnectionLost("closed")
        return self._connection

    def _refusal(self, error: InvalidStatus) -> DipoleError:
        status, body = error.response.status_code, error.response.body
        words = (body or b"").decode(errors="replace").strip()[:500]
        said = f"the server at {self.address} refuses (HTTP {status}): {words}"
        if status in REFUSED:
            return RefusedError(said)
        return Occupied(said) if status == OCCUPIED else ConnectionLost(said)


def _reason(closed: ConnectionClosed) -> DipoleError:
    """Why the connection is gone: by a message, or by the network or a program's end."""
    by_server = closed.rcvd is not None and closed.rcvd_then_sent is not False
    end = closed.rcvd if by_server else closed.sent
    if end is None:
        return ConnectionLost(str(closed.__cause__ or closed))
    why = f"{'it' if by_server else 'this client'} closed the connection with {end}"
    if end.code not in REJECTED:
        return ConnectionLost(why)
    too_big = by_server and end.code == CloseCode.MESSAGE_TOO_BIG
    return RejectedError(f"{why}: {SMALLER}" if too_big else why)


def _shut_down(connection: ClientConnection) -> None:
    """End what blocks in the connection's socket; TLS, if any, needs no farewell."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)
