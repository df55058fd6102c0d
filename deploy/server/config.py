"""How a policy is served, and to whom; values are in configs/serve.yaml."""

import hmac
import ipaddress
import math
from dataclasses import dataclass, fields

from dipole.data.core.errors import ConfigError
from dipole.deploy.wire.codec import MessageLimits
from dipole.deploy.wire.protocol import check_token

SHORTEST_TOKEN = 16
LAST_PORT = 65_535
SCHEMES = ("Bearer ", "Api-Key ")  # the second is what openpi's clients send


@dataclass(frozen=True)
class ServerConfig:
    """Where and to whom; times in seconds.

    host: where to listen; one that other computers reach needs a token.
    port: 0 is any free one.
    token: what clients have to know; None: nothing.
    max_clients: how many at one time.
    max_message: bytes of a request; clients are told.
    open_timeout: for a client to say who it is.
    receive_timeout: for the rest of a message that has begun.
    compute_timeout: for a chunk.
    send_timeout: for a client to take an answer.
    ping_interval, ping_timeout: a client that answers no ping is gone.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    max_clients: int = 8
    max_message: int = 32 * 2**20
    open_timeout: float = 5.0
    receive_timeout: float = 10.0
    compute_timeout: float = 60.0
    send_timeout: float = 10.0
    ping_interval: float = 5.0
    ping_timeout: float = 10.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == "port" or entry.type not in (int, float):
                continue
            kinds = int if entry.type is int else (int, float)
            if type(value) is bool or not isinstance(value, kinds) or not 0 < value < math.inf:
                what = "whole number" if entry.type is int else "number"
                raise ConfigError(f"{entry.name} is {value!r}; it must be a {what} above 0")
        if type(self.port) is not int or not 0 <= self.port <= LAST_PORT:
            raise ConfigError(
                f"port is {self.port!r}; it must be a whole number from 0 (any free one) to "
                f"{LAST_PORT}"
            )
        check_token(self.token)
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise ConfigError(
                f"the token has {len(self.token)} characters; at least {SHORTEST_TOKEN} are "
                "needed: "
                'python -c "import secrets; print(secrets.token_urlsafe())"'
            )
        if self.token is None and not self.is_local:
            raise ConfigError(
                f"host={self.host} is reached by other computers, and there is no token: anybody "
                "there could move the robot's plans. Set DIPOLE_TOKEN on both sides, or keep "
                "host=127.0.0.1 and come through a tunnel (docs/serve.md)"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this computer reaches the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def limits(self) -> MessageLimits:
        return MessageLimits(size=int(self.max_message))

    def admits(self, authorization: str) -> bool:
        """Whether a client's Authorization header has the token, found out in constant time."""
        if self.token is None:
            return True
        scheme = next((s for s in SCHEMES if authorization.startswith(s)), "")
        given, wanted = (  # a header's and the environment's odd bytes may be surrogates
            text.encode(errors="surrogatepass")
            for text in (authorization.removeprefix(scheme), self.token)
        )
        return bool(scheme) and hmac.compare_digest(given, wanted)
