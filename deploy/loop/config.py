"""How the control loop runs; values are in configs/deploy/."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.core.registry import nearest
from dipole.deploy.robots.groups import INTERPOLATIONS
from dipole.deploy.types import OTHERS_AGE, PolicySpec

UNKNOWN_HZ = 10.0  # actions per second where nobody says what the demonstrations had
LEAST_CONTROL_HZ = 100.0
STANDS_SECONDS = 0.05  # without a command, after which a robot is taken to stand still
MISMATCHES = ("rate", "units", "names")  # what accept_mismatch may hold


@dataclass(frozen=True)
class LoopConfig:
    """Rates in Hz, times in seconds.

    policy_hz: actions per second; None: as in the demonstrations, 10 where that is unknown.
    control_hz: commands per second, a whole multiple of policy_hz; None: the smallest one that is
        at least 100.
    accept_mismatch: which differences between robot and policy are accepted, and written into the
        report: "rate", "units", "names" (robots/fit.py).
    n_action_steps: consumed actions after which the next chunk is asked for (default: the policy's
        Ta). While it is computed, the rest of the present chunk goes on.
    merger, merger_options: see chunks/blending.py; interpolation: see chunks/interpolation.py.
    max_observation_age: with an older newest reading the robot holds: one number, or by name,
        {camera: 0.3, joints: 0.05}; 0.3 for channels that are not named.
    max_action_lateness: how long after its time an action may begin; a chunk that took longer is
        dropped.
    inference_timeout: after it another chunk is asked for; the first answer to come is used.
    max_hold: a hold that lasts longer stops the robot; null: it may wait for ever.
    max_limited: commands that stay further behind the actions than one of them lasts, or at an edge
        of the box, for longer than this without a pause stop the robot; null: never.
    max_approach: the same, on the way to the first action after the start or a hold.
    max_braking: limits with which a braking ramp may take longer than this are refused.
    max_missed: after more missed slots than this in a row commands start from rest; at low rates
        after fewer, because a robot without a command for 0.05 s stands.
    refuse_beyond: see chunk_checks.check_chunk.
    call_timeout: a call of the robot that takes longer is a fault; stop_timeout: how long stop()
        is waited for.
    sensor_latency, align_to: see ObservationBuffer. warmup_calls: chunks computed before motion.
    late: a slot that starts later than this after its time counts as late.
    """

    policy_hz: float | None = None
    control_hz: float | None = None
    n_action_steps: int | None = None
    merger: str = "switch"
    merger_options: Mapping[str, Any] = field(default_factory=dict)
    interpolation: str = "linear"
    max_observation_age: float | Mapping[str, float] = OTHERS_AGE
    max_action_lateness: float = 1.0
    inference_timeout: float = 2.0
    max_hold: float | None = 30.0
    max_limited: float | None = 5.0
    max_approach: float | None = 30.0
    max_braking: float = 5.0
    max_missed: int = 2
    refuse_beyond: float = 1.0
    call_timeout: float = 0.1
    stop_timeout: float = 1.0
    sensor_latency: float | Mapping[str, float] = 0.0
    align_to: str | None = None
    warmup_calls: int = 3
    late: float = 0.002
    accept_mismatch: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        positive = [
            "max_action_lateness", "inference_timeout", "refuse_beyond",
            "call_timeout", "stop_timeout", "late", "max_braking",
        ]  # fmt: skip
        optional = (
            "policy_hz", "control_hz", "max_hold", "n_action_steps", "max_limited", "max_approach",
        )  # fmt: skip
        positive += [name for name in optional if getattr(self, name) is not None]
        for name in positive:
            value = getattr(self, name)
            if not is_positive(value):
                raise ConfigError(f"{name} is {value!r}; it must be a positive number")
        ages = self.max_observation_age
        if not all(map(is_positive, ages.values() if isinstance(ages, Mapping) else [ages])):
            raise ConfigError(
                f"max_observation_age is {ages!r}; it must be a positive number, or such numbers "
                "by name"
            )
        for name in ("n_action_steps", "max_missed", "warmup_calls"):
            value = getattr(self, name)
            may_be_none = name == "n_action_steps" and value is None
            if not may_be_none and (type(value) is not int or value < 0):
                raise ConfigError(f"{name} is {value!r}; it must be a whole number")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise ConfigError(f"interpolation is {self.interpolation!r}; it is one of {known}")
        latency = self.sensor_latency
        latencies = list(latency.values()) if isinstance(latency, Mapping) else [latency]
        if not all(each == 0 or is_positive(each) for each in latencies):
            raise ConfigError(
                f"sensor_latency is {latency!r}; it must be a number that is not negative, or such "
                "numbers by name"
            )
        options = self.merger_options
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise ConfigError(f"merger_options is {self.merger_options!r}: {{steps: 4}}, or {{}}")
        if not isinstance(self.align_to, str | None):
            raise ConfigError(
                f"align_to is {self.align_to!r}; it is an observation's name, or null"
            )
        self._check_accepted()
        if self.policy_hz is not None and self.control_hz is not None:
            _check_multiple(self.policy_hz, self.control_hz)

    def _check_accepted(self) -> None:
        accepted = self.accept_mismatch
        if not isinstance(accepted, list | tuple):
            raise ConfigError(f"accept_mismatch is {accepted!r}: a list, such as [rate]")
        for word in accepted:
            if word not in MISMATCHES:
                hint = nearest(str(word), MISMATCHES) or "."
                raise ConfigError(
                    f"accept_mismatch has {word!r}{hint} Known: {', '.join(MISMATCHES)}"
                )
        object.__setattr__(self, "accept_mismatch", tuple(accepted))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LoopConfig":
        """From plain values; raises ConfigError for a name that does not exist."""
        return from_mapping(cls, values, "deploy")

    def resolved(self, policy: PolicySpec | None = None) -> "ResolvedLoopConfig":
        """The same with numbers for both rates.

        Raises ConfigError where policy_hz is given and not what the policy was trained at, unless
        accept_mismatch has "rate"; or where control_hz is no whole multiple of it.
        """
        trained = None if policy is None else policy.fps
        policy_hz = self.policy_hz or trained or UNKNOWN_HZ
        if "rate" not in self.accept_mismatch and rates_differ(policy_hz, trained):
            raise ConfigError(
                f"policy_hz = {policy_hz:g}, but the policy was trained on demonstrations of "
                f"{trained:g} frames a second: leave policy_hz out, or accept another speed by "
                "deploy.accept_mismatch=[rate]"
            )
        control_hz = self.control_hz or policy_hz * math.ceil(LEAST_CONTROL_HZ / policy_hz - 1e-9)
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        slots = max(0, round(STANDS_SECONDS * control_hz) - 1)
        return ResolvedLoopConfig(
            **values
            | {"policy_hz": policy_hz, "control_hz": control_hz}
            | {"max_missed": min(self.max_missed, slots)}
        )


@dataclass(frozen=True)
class ResolvedLoopConfig(LoopConfig):
    """A LoopConfig with numbers for both rates; made by `LoopConfig.resolved`."""

    policy_hz: float = UNKNOWN_HZ
    control_hz: float = LEAST_CONTROL_HZ

    @property
    def steps(self) -> int:
        """Commands per action."""
        return round(self.control_hz / self.policy_hz)

    @property
    def dt(self) -> float:
        """Seconds between actions."""
        return 1.0 / self.policy_hz

    @property
    def period(self) -> float:
        """Seconds between commands."""
        return 1.0 / self.control_hz


def is_positive(value: Any) -> bool:
    """Whether it is a finite number above 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf


def rates_differ(policy_hz: float, trained: float | None) -> bool:
    """Whether actions follow each other faster or slower than in the demonstrations."""
    return trained is not None and not math.isclose(policy_hz, trained, rel_tol=1e-6)


def _check_multiple(policy_hz: float, control_hz: float) -> None:
    steps = control_hz / policy_hz
    if steps < 1 or abs(steps - round(steps)) > 1e-9:
        near = sorted({max(1, math.floor(steps)) * policy_hz, math.ceil(steps) * policy_hz})
        raise ConfigError(
            f"control_hz = {control_hz:g} is not a whole multiple of policy_hz = {policy_hz:g}: "
            f"leave it out, or give {' or '.join(f'{rate:g}' for rate in near)}"
        )
