"""Who is connected to a policy server: one client for each robot, and who is not admitted yet."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Connection:
    """A client that was admitted.

    robot: the path of the address it came to.
    client: a secret of the client's, with which it may replace its own connection.
    address: where it is.
    end: closes the connection.
    """

    robot: str
    client: str
    address: str
    end: Callable[[], None]


class Connections:
    """The clients that were admitted, by robot; at most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_robot: dict[str, Connection] = {}

    def __len__(self) -> int:
        return len(self._by_robot)

    def problem(self, robot: str, client: str) -> str:
        """Why a client cannot be admitted, or ""."""
        present = self._by_robot.get(robot)
        if present is not None:
            if client and client == present.client:
                return ""
            named = f"robot {robot!r}" if robot else "the robot without a name"
            return (
                f"{named} has a client already ({present.address}): end that one first, or give "
                "each robot a name of its own, as in ws://host:port/NAME"
            )
        if len(self._by_robot) >= self._most:
            return f"{self._most} clients are connected, and no more are served (max_clients)"
        return ""

    def add(self, connection: Connection) -> None:
        """Admit a client that has no problem; its own earlier connection ends."""
        earlier = self._by_robot.get(connection.robot)
        self._by_robot[connection.robot] = connection
        if earlier is not None:
            earlier.end()

    def remove(self, connection: Connection) -> None:
        """It is gone; one that has taken its place stays."""
        if self._by_robot.get(connection.robot) is connection:
            del self._by_robot[connection.robot]


class Waiting:
    """Sockets of who has not been admitted yet: at most `most`, of which the oldest gives way."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ends: dict[Any, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, socket: Any, end: Callable[[], None]) -> None:
        """end: closes the socket."""
        self._ends[socket] = end
        if len(self._ends) > self._most:
            self._ends.pop(next(iter(self._ends)))()

    def remove(self, socket: Any) -> None:
        """It was admitted, or is gone."""
        self._ends.pop(socket, None)
