"""Who is connected to a policy server: at most one client for each robot."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Client:
    """One connection. robot: the path of the address it came to; session: a secret of the
    client's, with which it may replace its own connection; end: closes this one."""

    robot: str
    session: str
    address: str
    end: Callable[[], None]


class Clients:
    """The connections there are, by robot."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_robot: dict[str, Client] = {}

    def __len__(self) -> int:
        return len(self._by_robot)

    def problem(self, robot: str, session: str) -> str:
        """Why a client cannot be admitted, or ""."""
        present = self._by_robot.get(robot)
        if present is not None:
            if session and session == present.session:
                return ""
            named = f"robot {robot!r}" if robot else "the robot without a name"
            return (
                f"{named} has a client already ({present.address}): end that one first, or give "
                "each robot a name of its own, as in ws://host:port/NAME"
            )
        if len(self._by_robot) >= self._most:
            return f"{self._most} clients are connected, and no more are served (max_clients)"
        return ""

    def add(self, client: Client) -> None:
        """Admit a client that has no problem; its own earlier connection ends."""
        earlier = self._by_robot.get(client.robot)
        self._by_robot[client.robot] = client
        if earlier is not None:
            earlier.end()

    def remove(self, client: Client) -> None:
        """It is gone; one that has taken its place stays."""
        if self._by_robot.get(client.robot) is client:
            del self._by_robot[client.robot]
