"""One connection to a policy server at a time: opened, spoken over, lost, and opened anew."""

import asyncio
import contextlib
import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException
from websockets.protocol import State

from dipole.data.errors import ConfigError, DipoleError
from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.inference.remote_config import ClientConfig
from dipole.deploy.wire.codec import MessageError, MessageLimits, unpack
from dipole.deploy.wire.protocol import SESSION

LIMITS = MessageLimits()
CLOSE_SECONDS = 0.5
FOR_GOOD = (401, 403, 404)  # trying again would not help


class Unreachable(DipoleError):  # noqa: N818  it is what happened
    """No connection now; there may be one later."""


class LinkLost(DipoleError):  # noqa: N818  it is what happened
    """The connection is gone, and what was on its way with it."""


class Link:
    """Raises ConfigError for an address that is none; see the methods for the rest."""

    def __init__(self, address: str, token: str | None, session: str, config: ClientConfig) -> None:
        if not address.startswith(("ws://", "wss://")):
            raise ConfigError(f"server={address}: ws://host:port, or wss://host:port, is needed")
        self.address = address
        self._config = config
        self._headers = {SESSION: session}
        if token:
            self._headers["Authorization"] = f"Api-Key {token}"  # as openpi's servers expect it
        self._connection: ClientConnection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.state is State.OPEN

    async def open(self) -> Any:
        """A new connection; returns the server's first message.

        Raises Unreachable, or InferenceDied where the server refuses for good.
        """
        await self.close()
        config = self._config
        try:
            async with asyncio.timeout(config.open_timeout):
                self._connection = await connect(
                    self.address,
                    additional_headers=self._headers,
                    compression=None,
                    proxy=None,
                    max_size=LIMITS.size,
                    open_timeout=None,  # the time-out above covers the greeting too
                    ping_interval=config.ping_interval,
                    ping_timeout=config.ping_timeout,
                    close_timeout=CLOSE_SECONDS,
                )
                return unpack(_binary(await self._connection.recv()), LIMITS)
        except InvalidURI as error:
            raise ConfigError(f"server={self.address}: {error}") from None
        except InvalidStatus as error:
            raise self._refusal(error) from None
        except (OSError, TimeoutError, WebSocketException, MessageError) as error:
            raise Unreachable(str(error) or "it does not answer") from None

    async def send(self, data: bytes, until: float) -> None:
        """Raises LinkLost, also where it is not taken until then."""
        connection = self._open_connection()
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await connection.send(data)
        except (TimeoutError, WebSocketException) as error:
            await self.close()
            raise LinkLost(str(error)) from None

    async def receive(self, until: float) -> Any:
        """The next message. Raises LinkLost, also where none comes until then, and MessageError for
        what cannot be read; a text is what went wrong there, and is raised as one."""
        connection = self._open_connection()
        try:
            async with asyncio.timeout(until - time.monotonic()):
                received = await connection.recv()
        except (TimeoutError, WebSocketException) as error:
            await self.close()  # an answer that comes later would be taken for another's
            raise LinkLost(str(error)) from None
        return received if isinstance(received, str) else unpack(received, LIMITS)

    async def close(self) -> None:
        """Without waiting for an answer of the other side for longer than a moment."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with contextlib.suppress(TimeoutError, WebSocketException):
            async with asyncio.timeout(CLOSE_SECONDS):
                await connection.close()
        connection.transport.abort()

    def _open_connection(self) -> ClientConnection:
        if self._connection is None:
            raise LinkLost("there is no connection")
        return self._connection

    def _refusal(self, error: InvalidStatus) -> Exception:
        status, body = error.response.status_code, error.response.body
        words = (body or b"").decode(errors="replace").strip()[:500]
        said = f"the server at {self.address} refuses (HTTP {status}): {words}"
        return InferenceDied(said) if status in FOR_GOOD else Unreachable(said)


def _binary(received: bytes | str) -> bytes:
    if isinstance(received, str):
        raise MessageError(f"it greets with a text: {received[:200]}")
    return received
