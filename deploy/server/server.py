"""The policy server: chunks over a WebSocket, for dipole's client and for openpi's.

    a connection    GET /ROBOT, with the token  ->  greeting  ->  request, answer, request, ...

One request of a client is in work at a time; it is computed in a thread, so that the event loop
goes on answering the others. Whatever a client sends, it learns what was wrong with it and never
more: no traceback, no path. It cannot choose a file.
"""

import asyncio
import contextlib
import http
import logging
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import parse_qs

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from dipole.data.core.errors import DipoleError
from dipole.deploy.server.batching import Overloaded
from dipole.deploy.server.config import ServerConfig
from dipole.deploy.server.connections import Connection, Connections, Waiting
from dipole.deploy.server.session import ServedPolicy, Session
from dipole.deploy.wire.codec import MessageError, pack, unpack
from dipole.deploy.wire.protocol import CLIENT, error_message, greeting, read_request

FRAGMENTS = 1000  # of one message: each costs memory, however small
WAITING = 64  # sockets that have not said yet who they are
CLOSE_SECONDS = 1.0
SILENT = logging.getLogger("dipole.server.websockets")
SILENT.disabled = True  # what clients do wrong is said by `log`, in one line


class Refused(DipoleError):  # noqa: N818  it is what happened to the message
    """A message that ends the connection, with its close code."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class PolicyServer:
    """Serves a policy until it is stopped, or several by name.

    policy: One, or {name: policy}, of which ws://host:port/ROBOT?policy=NAME asks for one; without
    a name it is the first.
    log: called with a line for each client that comes, goes or is refused, and with the traceback
    of what failed here.
    """

    def __init__(
        self,
        policy: ServedPolicy | Mapping[str, ServedPolicy],
        config: ServerConfig,
        log: Callable[[str], None] = print,
    ) -> None:
        self.config = config
        self.connections = Connections(int(config.max_clients))
        self.waiting = Waiting(WAITING)
        self._policies = {"": policy} if isinstance(policy, ServedPolicy) else dict(policy)
        self._log = log
        # Requests that are computed together wait for each other, each in a thread.
        batched = all(each.batcher is not None for each in self._policies.values())
        threads = int(config.max_clients) if batched else 1
        self._worker = ThreadPoolExecutor(threads, "dipole-compute")
        self._stopping: asyncio.Event | None = None

    async def run(self, ready: Callable[[int], None] = lambda _port: None) -> None:
        """Serve until `stop`. ready: called with the port when clients may come.

        Raises OSError where the address cannot be had.
        """
        self._stopping = asyncio.Event()
        async with self._listen() as server:
            ready(server.sockets[0].getsockname()[1])
            await self._stopping.wait()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """End `run`; from its own event loop, or a signal handler of it."""
        if self._stopping is not None:
            self._stopping.set()

    def _listen(self) -> Any:
        config = self.config
        return serve(
            self._handle,
            config.host,
            int(config.port),
            process_request=self._admit,
            origins=[None],  # browsers name an origin: no page may reach into this computer
            compression=None,
            max_size=int(config.max_message),
            max_queue=1,
            open_timeout=config.open_timeout,
            ping_interval=config.ping_interval,
            ping_timeout=config.ping_timeout,
            close_timeout=CLOSE_SECONDS,
            server_header=None,
            logger=SILENT,
            create_connection=_kept_in(self.waiting),
        )

    # Who may come -------------------------------------------------------------------------------

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Before the WebSocket opens: an answer that refuses it, or none."""
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        address = _address(connection)
        if not self.config.admits(_header(request, "Authorization")):
            self._log(f"{address} refused: wrong token, or none")
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "wrong token, or none\n")
        if (name := _policy_name(request.path)) not in ("", *self._policies):
            known = ", ".join(filter(None, self._policies))
            self._log(f"{address} refused: there is no policy {name!r}")
            return connection.respond(
                http.HTTPStatus.NOT_FOUND, f"there is no policy {name!r}; known: {known}\n"
            )
        problem = self.connections.problem(_robot(request.path), _header(request, CLIENT))
        if problem:
            self._log(f"{address} refused: {problem}")
            return connection.respond(http.HTTPStatus.CONFLICT, f"{problem}\n")
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        """One client, from greeting to end."""
        request = connection.request
        assert request is not None
        self.waiting.remove(connection)
        robot, client = _robot(request.path), _header(request, CLIENT)
        address = _address(connection)
        if problem := self.connections.problem(robot, client):  # somebody came in between
            await connection.close(CloseCode.TRY_AGAIN_LATER, problem[:120])
            return
        admitted = Connection(robot, client, address, connection.transport.abort)
        self.connections.add(admitted)
        self._log(f"{address} connected" + (f" for {robot!r}" if robot else ""))
        try:
            reason = await self._converse(connection)
        except Exception:  # a defect: websockets closes the connection, and says nothing here
            self._log(f"{address} gone: the server failed\n{traceback.format_exc()}")
            raise
        finally:
            self.connections.remove(admitted)
        self._log(f"{address} gone{reason}")

    async def _converse(self, connection: ServerConnection) -> str:
        """Greet, and answer until the end; returns what to say of that."""
        try:
            policy = self._asked_for(connection)
            told = greeting(policy.schema, int(self.config.max_message))
            await self._send(connection, pack(told))
            with closing(Session(policy)) as session:
                while True:
                    await self._answer(connection, session, await self._receive(connection))
        except ConnectionClosed:
            return ""
        except Refused as refusal:
            with contextlib.suppress(ConnectionClosed, Refused, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    if refusal.code is not CloseCode.GOING_AWAY:
                        await self._send(connection, str(refusal))
                    await connection.close(refusal.code, str(refusal)[:120])
            connection.transport.abort()
            return f": {refusal}"

    def _asked_for(self, connection: ServerConnection) -> ServedPolicy:
        assert connection.request is not None
        name = _policy_name(connection.request.path)
        return self._policies.get(name) or next(iter(self._policies.values()))

    # Requests and answers -----------------------------------------------------------------------

    async def _receive(self, connection: ServerConnection) -> bytes:
        """The next message. Raises Refused for text, and for one in too many or too slow pieces."""
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(None) as limit:  # it may be silent while it answers pings
                async for part in connection.recv_streaming():
                    if isinstance(part, str):
                        raise Refused(
                            CloseCode.UNSUPPORTED_DATA, "the message is text, not msgpack"
                        )
                    if len(parts) >= FRAGMENTS:
                        raise Refused(CloseCode.POLICY_VIOLATION, "too many fragments")
                    if not parts:
                        limit.reschedule(_now() + self.config.receive_timeout)
                    parts.append(part)
        except TimeoutError:
            raise Refused(CloseCode.GOING_AWAY, "its message came too slowly") from None
        return b"".join(parts)

    async def _answer(self, connection: ServerConnection, session: Session, data: bytes) -> None:
        try:
            message = unpack(data, self.config.limits)
        except MessageError as error:
            raise Refused(CloseCode.INVALID_DATA, str(error)) from None
        answer = await self._computed(connection, session, message)
        await self._send(connection, answer)

    async def _computed(
        self, connection: ServerConnection, session: Session, message: Any
    ) -> bytes | str:
        """The answer's bytes, or a text that says what was wrong."""
        work: asyncio.Future[bytes | str] = asyncio.get_running_loop().run_in_executor(
            self._worker, _packed_answer, session, message, self._log
        )
        gone: asyncio.Future[None] = asyncio.ensure_future(connection.wait_closed())
        both: list[asyncio.Future[Any]] = [work, gone]
        limit = self.config.compute_timeout
        try:
            await asyncio.wait(both, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if gone.done():
                raise Refused(CloseCode.GOING_AWAY, "it left before its answer")
            return _said(message, f"no chunk was computed within {limit:g} s")
        finally:
            work.cancel()  # what has begun goes on: a thread cannot be ended
            gone.cancel()

    async def _send(self, connection: ServerConnection, data: bytes | str) -> None:
        try:
            async with asyncio.timeout(self.config.send_timeout):
                await connection.send(data)
        except TimeoutError:
            raise Refused(CloseCode.GOING_AWAY, "it does not take its answers") from None


def _packed_answer(session: Session, message: Any, log: Callable[[str], None]) -> bytes | str:
    """In the thread that computes. Nothing that a policy raises ends the server."""
    try:
        return pack(session.answer(message))
    except Overloaded as error:
        return _said(message, str(error), lost=True)
    except DipoleError as error:
        return _said(message, str(error))
    except MemoryError:
        log(f"out of memory\n{traceback.format_exc()}")
        return _said(message, "the server is out of memory")
    except Exception:  # a defect: for the server's person, not for its clients
        log(f"the policy failed\n{traceback.format_exc()}")
        return _said(message, "the policy failed; the server's output says why")


def _said(message: Any, error: str, lost: bool = False) -> bytes | str:
    """What was wrong with a request, in the words of whoever sent it."""
    try:
        return pack(error_message(read_request(message).ticket, error, lost))
    except (MessageError, AttributeError):
        return error


def _kept_in(waiting: Waiting) -> type[ServerConnection]:
    """Connections that wait there until they are admitted, or gone."""

    class Kept(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            waiting.add(self, self.transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            waiting.remove(self)
            super().connection_lost(exc)

    return Kept


def _now() -> float:
    return asyncio.get_running_loop().time()


def _header(request: Request, name: str) -> str:
    """A header's value; one that is given twice is none."""
    values = request.headers.get_all(name)
    return values[0] if len(values) == 1 else ""


def _robot(path: str) -> str:
    return path.partition("?")[0].strip("/")[:100]


def _policy_name(path: str) -> str:
    return parse_qs(path.partition("?")[2]).get("policy", [""])[0][:100]


def _address(connection: ServerConnection) -> str:
    address = connection.remote_address
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "a client"
