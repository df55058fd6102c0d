"""openpi's servers: single observations, answered in turn with a chunk each.

    server  {...}                                           whatever its person put there
    client  {"observation/NAME": value, ..., "prompt": ...}
    server  {"actions": [H, A], "server_timing": {"infer_ms": ...}}, or a traceback as text

Such a server computes in its event loop: it answers no ping meanwhile. Its greeting does not say
what the policy sees and does, so the robot's spec and a first chunk do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.data.loading.window_spec import WindowSpec
from dipole.deploy.robots.robot import RobotSpec
from dipole.deploy.types import Arrays, PolicySpec, Request, Result
from dipole.deploy.wire.codec import MessageError, pack
from dipole.deploy.wire.protocol import Dialect, DipoleDialect, is_ours

FIRST_SECONDS = 120.0  # a large policy's first chunk may have to be compiled


@dataclass(frozen=True)
class OpenpiTerms:
    """What a server of openpi is asked, as its greeting does not say it.

    observation: {its key: the robot's channel}; empty: observation/NAME for each channel.
    prompt: the task in words, if its policy takes some.
    n_action_steps: actions of a chunk that run before the next is asked for; None: half of them.
    """

    observation: Mapping[str, str] = field(default_factory=dict)
    prompt: str | None = None
    n_action_steps: int | None = None

    def __post_init__(self) -> None:
        steps = self.n_action_steps
        if steps is not None and (type(steps) is not int or steps < 1):
            raise ConfigError(
                f"openpi.n_action_steps is {steps!r}; it must be a whole number of at least 1, or "
                "null: half of a chunk"
            )


class OpenpiDialect:
    """Raises ConfigError for a channel that the robot does not have."""

    pings = False

    def __init__(self, greeting: Any, robot: RobotSpec, terms: OpenpiTerms) -> None:
        self._greeting = pack(greeting)
        self._terms = terms
        self._keys = dict(terms.observation) or {f"observation/{n}": n for n in robot.observation}
        for key, name in self._keys.items():
            if name not in robot.observation:
                hint = nearest(name, list(robot.observation)) or ";"
                raise ConfigError(
                    f"openpi.observation.{key} is {name!r}{hint} the robot has "
                    + ", ".join(robot.observation)
                )
        self._channels = {name: robot.observation[name] for name in self._keys.values()}

    def learn(self, ask: Callable[[bytes, float], Any]) -> PolicySpec:
        """From the chunk for an observation of zeros."""
        zeros = {name: np.zeros(c.shape, c.dtype) for name, c in self._channels.items()}
        horizon, size = _actions(ask(self._packed(zeros), FIRST_SECONDS)).shape
        steps = self._terms.n_action_steps or max(1, horizon // 2)
        if steps > horizon:
            raise ConfigError(
                f"openpi.n_action_steps is {steps}, and a chunk of this server has {horizon} "
                "actions"
            )
        shapes = {name: channel.shape for name, channel in self._channels.items()}
        return PolicySpec(shapes, size, WindowSpec(1, horizon, steps))

    def is_same(self, greeting: Any) -> bool:
        return not is_ours(greeting) and pack(greeting) == self._greeting

    def encode(self, request: Request) -> bytes:
        return self._packed({name: value[-1] for name, value in request.observation.items()})

    def decode(self, message: Any, request: Request, seconds: float) -> Result:
        return Result(request.ticket, {"action": _actions(message)}, seconds)

    def _packed(self, seen: Arrays) -> bytes:
        message: dict[str, Any] = {key: seen[name] for key, name in self._keys.items()}
        if self._terms.prompt is not None:
            message["prompt"] = self._terms.prompt
        return pack(message)


def choose_dialect(greeting: Any, robot: RobotSpec | None, openpi: OpenpiTerms | None) -> Dialect:
    """By a server's first message.

    Raises ConfigError if openpi's needs to be told more, and if dipole's is told what is openpi's.
    """
    if is_ours(greeting):
        unset = OpenpiTerms()
        given = [
            entry.name
            for entry in fields(OpenpiTerms)
            if openpi is not None and getattr(openpi, entry.name) != getattr(unset, entry.name)
        ]
        if given:
            raise ConfigError(
                f"openpi.{', openpi.'.join(given)}: for a server of openpi, and this one is "
                "dipole's, which says itself what its policy sees; leave it out"
            )
        return DipoleDialect(greeting)
    if robot is None:
        raise ConfigError(
            "the server is none of dipole's. If it is openpi's, give robot=..., the robot's spec"
        )
    return OpenpiDialect(greeting, robot, openpi or OpenpiTerms())


def _actions(message: Any) -> np.ndarray:
    """[H, A] of an answer; a text is a traceback of the server's, of which the last line counts."""
    if isinstance(message, str):
        raise MessageError(f"it says {(message.strip().splitlines() or [''])[-1][:500]}")
    actions = message.get("actions") if isinstance(message, Mapping) else None
    if not isinstance(actions, np.ndarray) or actions.ndim != 2 or not len(actions):
        raise MessageError("it has no 'actions' of shape [H, A]")
    return actions
