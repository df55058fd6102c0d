"""Inference on another computer: chunks from a policy server, over a network that may fail.

The control loop sees one more Inference. A request that a connection took with it is answered as
lost, so that the loop asks again with what it sees then; the plan it has goes on meanwhile, and
ends in a hold. Nothing that was asked for on one connection is answered on another.
"""

import math
import threading
import time
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.inference.worker import InferenceWorker
from dipole.deploy.loop.log import LOGGER
from dipole.deploy.loop.report import Samples
from dipole.deploy.robots.robot import RobotSpec
from dipole.deploy.types import Request, Result
from dipole.deploy.wire.codec import MessageError
from dipole.deploy.wire.openpi import OpenpiTerms, choose_dialect
from dipole.deploy.wire.protocol import computing_seconds, read_max_message
from dipole.deploy.wire.websocket import (
    SMALLER,
    ClientConfig,
    ConnectionLost,
    Occupied,
    RefusedError,
    WebSocket,
)

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between connections, until there is a chunk


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
        self.config = config or ClientConfig()
        self.round_trips, self.computing = Samples(), Samples()
        self.reconnections = self.stale = 0
        self._socket = WebSocket(address, token, self.config)
        self._pings = True
        self._pause = 0.0  # before the next connection
        self._last_loss = ""
        self._closing = threading.Event()
        try:
            self._begin(robot, openpi)
        except BaseException:
            self._socket.close()
            raise
        super().__init__(self._run)

    @property
    def notes(self) -> list[str]:
        """What a report should say of the network."""
        line = f"server {self._socket.address}: reconnected {self.reconnections} times"
        for name, samples in (("round trip", self.round_trips), ("computing", self.computing)):
            summary = samples.summary(1000.0)
            if summary["count"]:
                line += f", {name} p50 {summary['p50']:.1f} ms, p99 {summary['p99']:.1f} ms"
        return [f"{line}; last lost: {self._last_loss}" if self._last_loss else line]

    def close(self) -> None:
        """End the connection, whatever is on its way."""
        super().close()
        self._closing.set()
        self._socket.close()

    # Requests -----------------------------------------------------------------------------------

    def _run(self, request: Request) -> Result:
        """In the worker's thread. Raises MessageError for a request that cannot be sent."""
        if not self._socket.is_open:
            self._last_loss = self._socket.ending or self._last_loss
            self._reconnect()
            self.drop_waiting()  # it was asked before there was this connection, as this one was
            return self._lost(request)
        data = self._dialect.encode(request)
        self._check_size(data)
        started = time.monotonic()
        try:
            result = self._ask(data, request, started)
        except ConnectionLost as loss:
            self._socket.close()  # an answer that comes later would be taken for another's
            self._last_loss = str(loss)
            return self._lost(request)
        except MessageError as error:
            self._socket.close()  # what follows cannot be trusted either
            told = f"the server's answer: {error}"
            return Result(request.ticket, None, time.monotonic() - started, told)
        if not result.error:
            self._pause = 0.0
        self.round_trips.add(result.seconds)
        return result

    def _lost(self, request: Request) -> Result:
        return Result(request.ticket, None, 0.0, self._last_loss, lost=True)

    def _ask(self, data: bytes, request: Request, started: float) -> Result:
        """Ask, and wait for the answer to this very request."""
        self._socket.send(data)
        while True:
            message = self._socket.receive(started + self.config.answer_timeout)
            result = self._dialect.decode(message, request, time.monotonic() - started)
            if result.ticket == request.ticket:
                if (computing := computing_seconds(message)) is not None:
                    self.computing.add(computing)
                return result
            self.stale += 1

    def _ask_first(self, data: bytes, seconds: float) -> Any:
        """The message that answers `data`, for dialects that learn by asking."""
        self._socket.send(data)
        return self._socket.receive(time.monotonic() + seconds)

    def _check_size(self, data: bytes) -> None:
        if self._max_message is not None and len(data) > self._max_message:
            raise MessageError(
                f"the request has {len(data)} bytes, and the server takes {self._max_message}: "
                + SMALLER
            )

    # Connections --------------------------------------------------------------------------------

    def _begin(self, robot: RobotSpec | None, openpi: OpenpiTerms | None) -> None:
        """The first connection; finds out what the policy sees and does."""
        until = time.monotonic() + self.config.start_timeout
        greeting = self._connect(until)
        self._dialect = choose_dialect(greeting, robot, openpi)
        if not self._dialect.pings:
            self._pings = False
            greeting = self._connect(until)
        self._max_message = read_max_message(greeting)
        try:
            self.spec = self._dialect.learn(self._ask_first)
        except (ConnectionLost, MessageError) as error:
            raise InferenceDied(
                f"the server at {self._socket.address} gave no chunk: {error}"
            ) from None

    def _reconnect(self) -> None:
        """Until it is done. Raises InferenceDied after `close`, or for another policy."""
        while not self._socket.is_open:
            greeting = self._connect(math.inf)
            try:
                same = self._is_same(greeting)
            except ConnectionLost as loss:
                self._socket.close()
                self._last_loss = str(loss)
                continue
            if not same:
                raise InferenceDied(
                    f"the server at {self._socket.address} came back with another policy: stop, "
                    "and begin again with it"
                )
            self._max_message = read_max_message(greeting)
        self.reconnections += 1

    def _is_same(self, greeting: Any) -> bool:
        """Whether the policy is the one from before. Raises ConnectionLost."""
        try:
            same = self._dialect.is_same(greeting)
            return same and self._dialect.learn(self._ask_first) == self.spec
        except (MessageError, ConfigError):  # what was asked for does not fit its policy
            return False

    def _connect(self, until: float) -> Any:
        """The greeting of a new connection. Raises InferenceDied after `until`, or `close`."""
        said, anew = False, until == math.inf
        while not self._closing.wait(self._pause):
            self._pause = min(max(FIRST_PAUSE, 2 * self._pause), LONGEST_PAUSE)
            try:
                greeting = self._socket.open(self._pings)
            except RefusedError as error:
                raise InferenceDied(str(error)) from None
            except ConnectionLost as loss:
                self._last_loss = str(loss)
                if not said and (anew or isinstance(loss, Occupied)):
                    said = True  # at once: a person can mend it while it is tried again
                    LOGGER.info(
                        f"the policy server at {self._socket.address} is lost: {loss}. Trying again"
                        if anew
                        else f"{loss}. Trying again for {self.config.start_timeout:g} s"
                    )
                if time.monotonic() + self._pause > until:
                    what = "place" if isinstance(loss, Occupied) else "policy server"
                    raise InferenceDied(
                        f"no {what} at {self._socket.address} within "
                        f"{self.config.start_timeout:g} s: {loss}"
                    ) from None
                continue
            if not self._closing.is_set():
                if said and anew:
                    LOGGER.info(f"the policy server at {self._socket.address} is back")
                return greeting
        self._socket.close()
        raise InferenceDied("closed")
