"""What client and server say to each other: one greeting, then requests and answers in turn.

    server  {"dipole": {"protocol": 1, "version": ..., "max_message": bytes of a request},
             "policy": {"observation": {name: {"shape", "dtype", "names", "units"}},
             "action_size": A, "action": {"names", "units"}, "fps": ..., "window": {...},
             "inpaints": bool, "max_prefix": int, "fingerprint": ...}}
    client  {"ticket": {...}, "observation": {name: [To, *shape]}, "known": {...}}
    server  {"ticket": {...}, "actions": [H, A], "server_timing": {"infer_ms": ...}}
            or {"ticket": {...}, "error": "what was wrong", "lost": true where it is too busy}

A client of openpi sends an observation without a ticket, and gets "actions" from the current one
on, or a text that says what was wrong (server/session.py). Its own servers greet with other words.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from dipole import __version__
from dipole.data.core.errors import ConfigError, DipoleError
from dipole.data.loading.window_spec import WindowSpec
from dipole.deploy.types import Meaning, PolicySpec, Request, Result, Ticket, read_fps
from dipole.deploy.wire.codec import MessageError, pack

PROTOCOL = 1
CLIENT = "Dipole-Client"  # header: a secret; who knows it may replace the connection it came with
DELETE = 0x7F  # the one control character that does not come before the space


class ProtocolError(DipoleError):
    """The other side does not speak this protocol, or another version of it."""


@dataclass(frozen=True)
class Schema:
    """What a server says of its policy. dtypes: of observations, float32 where it says nothing;
    fingerprint: of its weights, so that a client notices that they are others; replaced: those of
    weights that it served before, whose clients may go on."""

    spec: PolicySpec
    dtypes: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    replaced: tuple[str, ...] = ()

    def follows(self, other: "Schema") -> bool:
        """Whether a client of the other policy may go on with this one."""
        same = (self.spec, dict(self.dtypes)) == (other.spec, dict(other.dtypes))
        return same and other.fingerprint in (self.fingerprint, *self.replaced)


def check_token(token: Any) -> None:
    """Raise ConfigError for a token that no header can carry, without the token's text.

    token: A text, or None.
    """
    if token is None:
        return
    if not isinstance(token, str):
        raise ConfigError("the token is no text: quote it, token='\"...\"', or set DIPOLE_TOKEN")
    if token != token.strip() or any(ord(c) < ord(" ") or ord(c) == DELETE for c in token):
        raise ConfigError(
            "the token has a line break or a space at one of its ends, or a control character "
            "inside (it is not shown here): set DIPOLE_TOKEN to the token alone"
        )


def greeting(schema: Schema, max_message: int) -> dict[str, Any]:
    """The first message of a server. max_message: bytes of the largest request it takes."""
    spec = schema.spec
    observation = {
        name: {"shape": list(shape), "dtype": schema.dtypes.get(name, "float32")}
        | _plain(spec.meaning_of(name))
        for name, shape in spec.observation.items()
    }
    return {
        "dipole": {"protocol": PROTOCOL, "version": __version__, "max_message": max_message},
        "policy": {
            "observation": observation,
            "action_size": spec.action_size,
            "action": _plain(spec.meaning_of("action")),
            "fps": spec.fps,
            "window": asdict(spec.window),
            "inpaints": spec.inpaints,
            "max_prefix": spec.max_prefix,
            "fingerprint": schema.fingerprint,
            **({"replaced": list(schema.replaced)} if schema.replaced else {}),
        },
    }


def _plain(meaning: Meaning) -> dict[str, Any]:
    """Names and units, where they are known."""
    units = meaning.units if isinstance(meaning.units, str) else list(meaning.units)
    known = {"names": list(meaning.names), "units": units}
    return {name: value for name, value in known.items() if value}


def is_ours(metadata: Any) -> bool:
    """Whether a server's first message is a greeting of dipole's."""
    return isinstance(metadata, Mapping) and isinstance(metadata.get("dipole"), Mapping)


def read_max_message(metadata: Any) -> int | None:
    """Bytes of the largest request that a server takes, or None where its greeting lacks them."""
    limit = metadata["dipole"].get("max_message") if is_ours(metadata) else None
    return limit if isinstance(limit, int) and limit > 0 else None


def read_greeting(metadata: Mapping[str, Any]) -> Schema:
    """What a greeting says; what an older server does not say is unknown.

    Raises ProtocolError for another version of the protocol, or what makes no sense.
    """
    spoken = metadata["dipole"].get("protocol")
    if spoken != PROTOCOL:
        raise ProtocolError(
            f"the server speaks protocol {spoken!r} (dipole {metadata['dipole'].get('version')}), "
            f"this client {PROTOCOL}: install the same release of dipole on both"
        )
    try:
        policy = metadata["policy"]
        listed = policy["observation"].items()
        shapes = {str(name): tuple(map(int, entry["shape"])) for name, entry in listed}
        dtypes = {str(name): str(entry["dtype"]) for name, entry in listed}
        window, inpaints = WindowSpec(**policy["window"]), bool(policy["inpaints"])
        size, fps = int(policy["action_size"]), read_fps(policy.get("fps"))
        meaning = {name: Meaning.read(shapes[name], entry) for name, entry in listed}
        meaning["action"] = Meaning.read((size,), policy.get("action") or {})
        max_prefix = int(policy.get("max_prefix", 0))
        spec = PolicySpec(shapes, size, window, inpaints, fps, meaning, max_prefix)
        replaced = tuple(map(str, policy.get("replaced") or ()))
        return Schema(spec, dtypes, str(policy["fingerprint"]), replaced)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"the server's greeting cannot be read: {error!r}") from error


class Dialect(Protocol):
    """How a client speaks with one kind of server.

    pings: whether such a server answers pings while it computes.
    """

    pings: bool

    def learn(self, ask: Callable[[bytes, float], Any]) -> PolicySpec:
        """What the policy sees and does.

        ask: sends a message, and returns the one that comes within so many seconds.
        Raises MessageError, and what `ask` raises.
        """
        ...

    def is_same(self, greeting: Any) -> bool:
        """Whether a server with this greeting may be the one from before."""
        ...

    def encode(self, request: Request) -> bytes: ...

    def decode(self, message: Any, request: Request, seconds: float) -> Result:
        """Raises MessageError; the result's ticket says whether it answers the request."""
        ...


class DipoleDialect:
    """Windows with tickets, as above. Raises ProtocolError for a greeting that cannot be read."""

    pings = True

    def __init__(self, greeting: Mapping[str, Any]) -> None:
        self._schema = read_greeting(greeting)

    def learn(self, _ask: Callable[[bytes, float], Any]) -> PolicySpec:
        return self._schema.spec

    def is_same(self, greeting: Any) -> bool:
        with contextlib.suppress(ProtocolError):
            return is_ours(greeting) and read_greeting(greeting).follows(self._schema)
        return False

    def encode(self, request: Request) -> bytes:
        return pack(request_message(request))

    def decode(self, message: Any, request: Request, seconds: float) -> Result:
        if isinstance(message, str):
            return Result(request.ticket, None, seconds, f"the server: {message[:1000]}")
        return read_answer(message, seconds)


def request_message(request: Request) -> dict[str, Any]:
    """A request, as it is sent."""
    message = {"ticket": asdict(request.ticket), "observation": dict(request.observation)}
    return message | ({"known": dict(request.known)} if request.known else {})


def read_request(message: Mapping[str, Any]) -> Request:
    """A request that was received. Raises MessageError; what is in its entries is not checked."""
    ticket = _ticket(message.get("ticket"))
    return Request(ticket, _map(message, "observation"), _map({"known": {}, **message}, "known"))


def answer_message(request: Request, answer: Any, seconds: float) -> dict[str, Any]:
    """A chunk, as it is sent. answer: {"action": [H, A]}."""
    timing = {"infer_ms": 1000.0 * seconds}
    said = {"ticket": asdict(request.ticket), "server_timing": timing}
    return {**said, "actions": answer["action"]}


def error_message(ticket: Ticket, error: str, lost: bool = False) -> dict[str, Any]:
    """Why there is no chunk. lost: Nobody is to blame; ask again."""
    return {"ticket": asdict(ticket), "error": error} | ({"lost": True} if lost else {})


def read_answer(message: Any, seconds: float) -> Result:
    """An answer that was received, `seconds` after its request was sent. Raises MessageError."""
    if not isinstance(message, Mapping):
        raise MessageError("the answer is no map")
    ticket = _ticket(message.get("ticket"))
    if "error" in message:
        lost = message.get("lost") is True
        return Result(ticket, None, seconds, f"the server: {str(message['error'])[:1000]}", lost)
    if "actions" not in message:
        raise MessageError("the answer has no 'actions'")
    return Result(ticket, {"action": message["actions"]}, seconds)


def computing_seconds(message: Any) -> float | None:
    """How long the server says that it computed, where it says so."""
    timing = message.get("server_timing") if isinstance(message, Mapping) else None
    spent = timing.get("infer_ms") if isinstance(timing, Mapping) else None
    return float(spent) / 1000.0 if isinstance(spent, int | float | np.floating) else None


def _map(message: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = message.get(name)
    if not isinstance(value, Mapping):
        raise MessageError(f"the request has no {name!r} that is a map")
    return value


def _ticket(values: Any) -> Ticket:
    known = {"chunk_id": int, "epoch": int, "observation_time": float, "consumed": int}
    if not isinstance(values, Mapping) or {n: type(v) for n, v in values.items()} != known:
        raise MessageError(f"the ticket {values!r:.200} is not {', '.join(known)}")
    return Ticket(**values)
