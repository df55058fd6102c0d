"""Inference on another computer: chunks from a policy server, over a network that may fail.

The control loop sees one more Inference. A request that a connection took with it is answered as
lost, so that the loop asks again with what it sees then; the plan it has goes on meanwhile, and
ends in a hold. Nothing that was asked for on one connection is answered on another.
"""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.inference.link import Link, LinkLost, Unreachable
from dipole.deploy.inference.remote_config import ClientConfig, OpenpiTerms
from dipole.deploy.inference.worker import InferenceWorker
from dipole.deploy.loop.report import Samples
from dipole.deploy.robots.robot import RobotSpec
from dipole.deploy.types import Request, Result
from dipole.deploy.wire.codec import MessageError
from dipole.deploy.wire.openpi import Dialect, choose_dialect

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5  # seconds between attempts to connect
CLOSE_SECONDS = 1.0


@dataclass(frozen=True)
class _Stamped(Request):
    """A request, and the connection that there was when it was asked."""

    connection: int = 0


class RemoteInference(InferenceWorker):
    """Has chunks computed by the server at `address` (ws://host:port, or ws://host:port/ROBOT).

    token: the server's. robot, openpi: for servers of openpi, which say nothing of what their
    policy sees. round_trips, computing: seconds, on this computer's clock and as the server says;
    reconnections, stale: how often a connection was made anew, and answers nobody waited for.
    Raises InferenceDied where no server answers within config.start_timeout or it refuses, and
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
        self.config = config or ClientConfig()
        self.round_trips, self.computing = Samples(), Samples()
        self.reconnections = self.stale = 0
        self._link = Link(address, token, secrets.token_hex(16), self.config)
        self._connection = 0
        self._ended = threading.Event()
        self._network = _Network()
        try:
            greeting = self._connect(time.monotonic() + self.config.start_timeout)
            self._dialect: Dialect = choose_dialect(greeting, robot, openpi)
            self.spec = self._network.run(self._dialect.learn(self._link))
        except BaseException:
            self._end()
            raise
        super().__init__(self._run)

    @property
    def notes(self) -> list[str]:
        """What a report should say of the network."""
        trips, computing = (s.summary(1000.0) for s in (self.round_trips, self.computing))
        line = f"server {self._link.address}: reconnected {self.reconnections} times"
        for name, summary in (("round trip", trips), ("computing", computing)):
            if summary["count"]:
                line += f", {name} p50 {summary['p50']:.1f} ms, p99 {summary['p99']:.1f} ms"
        return [line]

    def submit(self, request: Request) -> None:
        stamped = _Stamped(
            request.ticket, request.observation, request.known, connection=self._connection
        )
        super().submit(stamped)

    def close(self) -> None:
        """End the connection, whatever is on its way."""
        super().close()
        self._end()

    def _end(self) -> None:
        self._ended.set()
        with contextlib.suppress(LinkLost):  # it was closed before
            self._network.run(self._link.close(), interrupt=True)
        self._network.close()

    def _run(self, request: Request) -> Result:
        assert isinstance(request, _Stamped)
        if not self._link.is_open:
            self._reconnect()
        if request.connection != self._connection:
            return Result(request.ticket, None, 0.0, lost=True)
        try:
            result, computing = self._network.run(self._ask(request))
        except LinkLost:
            return Result(request.ticket, None, 0.0, lost=True)
        self.round_trips.add(result.seconds)
        if computing is not None:
            self.computing.add(computing)
        return result

    async def _ask(self, request: Request) -> tuple[Result, float | None]:
        """Ask, and wait for the answer to this very request."""
        started = time.monotonic()
        until = started + self.config.answer_timeout
        await self._link.send(self._dialect.encode(request), until)
        while True:
            try:
                message = await self._link.receive(until)
                seconds = time.monotonic() - started
                result = self._dialect.decode(message, request, seconds)
            except MessageError as error:
                await self._link.close()  # what follows cannot be trusted either
                told = f"the server's answer: {error}"
                return Result(request.ticket, None, time.monotonic() - started, told), None
            if result.ticket == request.ticket:
                return result, self._dialect.computing(message)
            self.stale += 1

    def _reconnect(self) -> None:
        """Until it is done, or `close` was called."""
        greeting = self._connect(float("inf"))
        if not self._dialect.is_same(greeting):
            raise InferenceDied(
                f"the server at {self._link.address} came back with another policy: "
                "stop, and begin again with it"
            )
        self._connection += 1
        self.reconnections += 1

    def _connect(self, until: float) -> Any:
        """The greeting of a new connection. Raises InferenceDied after `until`."""
        pause = FIRST_PAUSE
        while True:
            try:
                return self._network.run(self._link.open())
            except Unreachable as error:
                if time.monotonic() + pause > until:
                    seconds = self.config.start_timeout
                    raise InferenceDied(
                        f"no policy server at {self._link.address} within {seconds:g} s: {error}"
                    ) from None
            if self._ended.wait(pause):
                raise InferenceDied("closed")
            pause = min(2 * pause, LONGEST_PAUSE)


class _Network:
    """An event loop in a thread of its own, in which one thing is done at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._doing: Any = None
        self._closed = False
        self._thread = threading.Thread(
            target=self._loop.run_forever, daemon=True, name="dipole-network"
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], interrupt: bool = False) -> T:
        """Wait for it; raises LinkLost after `close`. interrupt: end what another waits for."""
        if self._closed:
            work.close()
            raise LinkLost("closed")
        if interrupt and self._doing is not None:
            self._doing.cancel()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        if not interrupt:
            self._doing = future
        return future.result()

    def close(self) -> None:
        """End what is left to do, and the thread."""
        if self._closed:
            return
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(CLOSE_SECONDS)
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
