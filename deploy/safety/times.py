"""Time-outs that make no sense together are refused before anything starts."""

from collections.abc import Mapping

from dipole.data.core.errors import ConfigError
from dipole.deploy.loop.config import ResolvedLoopConfig
from dipole.deploy.robots.groups import ActionGroup, ActionSpec
from dipole.deploy.safety.axis import ROUNDING
from dipole.deploy.safety.command_filter import MotionFilter
from dipole.deploy.safety.supervisor import MONITOR_SECONDS

PERIODS = 3  # control periods that a loop in order may be late


def check_times(loop: ResolvedLoopConfig, watchdog: float | None) -> None:
    """Raises ConfigError if one time-out would always run out before another may be used.

    watchdog: Seconds without a heartbeat after which the robot is stopped; None without a watchdog.
    """
    needed = loop.call_timeout + MONITOR_SECONDS + PERIODS * loop.period
    if watchdog is not None and not needed < watchdog < float("inf"):
        raise ConfigError(
            f"watchdog={watchdog:g} s, and a call of the robot may take call_timeout="
            f"{loop.call_timeout:g} s: a call within its time would be taken for the end of the "
            f"loop. Give the watchdog more than {needed:.3g} s"
        )
    age = loop.max_observation_age
    if not isinstance(age, Mapping) and age < loop.dt:  # by name, a fast sensor may have less
        raise ConfigError(
            f"max_observation_age={age:g} s is shorter than the policy's "
            f"period of {loop.dt:g} s (policy_hz={loop.policy_hz:g}): a sensor as fast as the "
            "policy would always be too old"
        )
    if loop.max_hold is not None and loop.max_hold < loop.dt:
        raise ConfigError(
            f"max_hold={loop.max_hold:g} s is shorter than the policy's period of {loop.dt:g} s "
            f"(policy_hz={loop.policy_hz:g}): any hold would end the run"
        )


def check_braking(loop: ResolvedLoopConfig, action: ActionSpec) -> None:
    """Raises ConfigError if a braking ramp may take longer than loop.max_braking.

    action: whose groups have limits, or are discrete.
    """
    for group in action.groups:
        if group.is_discrete or group.limits is None:
            continue
        seconds = MotionFilter(group, loop.period).stopping_seconds
        if seconds > loop.max_braking * (1 + ROUNDING):
            velocity, acceleration = list(group.limits.velocity), list(group.limits.acceleration)
            raise ConfigError(
                f"action group {group.name!r} may need {seconds:.3g} s to brake, more than "
                f"max_braking={loop.max_braking:g} s: its limits are velocity={velocity}, "
                f"acceleration={acceleration}. {_remedy(group)}, or allow it by deploy.max_braking"
            )


def _remedy(group: ActionGroup) -> str:
    """How a group brakes sooner. Of velocities, the limits are those of their change."""
    if group.is_velocity:
        return (
            f"Raise both, since of a {group.kind} they limit how its velocity changes, or narrow "
            "low and high"
        )
    return "Lower the velocity, raise the acceleration"
