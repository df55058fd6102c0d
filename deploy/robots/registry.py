"""Robots by name. Yours is registered by a module of your own:

from dipole.deploy.robots import ROBOTS

@ROBOTS.add("arm")
class Arm(Robot): ...

dipole deploy module=my_arm.py --config-dir my_configs robot=arm checkpoint=RUN
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import Registry
from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.robots.robot import Robot
from dipole.deploy.safety.axis import ROUNDING
from dipole.deploy.safety.command_filter import MotionFilter
from dipole.deploy.safety.limits import Limits, spread

ROBOTS: Registry[Callable[..., Robot]] = Registry("robot")


def make_robot(
    name: str, options: Mapping[str, Any] | None = None, limits: Mapping[str, Any] | None = None
) -> Robot:
    """A robot by name, with its options, and with limits where these are given.

    limits: {low, high, velocity, acceleration, max_deviation} of all numbers of an action, or
    {group: {low, ...}} of some of its groups. What they do not name stays as the robot's class has
    it. Raises ConfigError for an unknown name or option, for a robot that then has no limits, and
    for one number for all groups that would have a group of velocities brake later.
    """
    build = ROBOTS[name]
    try:
        robot = build(**(options or {}))
    except TypeError as error:
        raise ConfigError(f"robot {name!r} does not take these options: {error}") from None
    given = {key: value for key, value in (limits or {}).items() if value is not None}
    action = robot.spec.action
    names = [group.name for group in action.groups]
    of_groups = bool(given) and set(given) <= set(names)
    if given or robot.spec.without_limits == tuple(names):
        by_group = given if of_groups else _by_group(action, given)
        limited = _limited(action, by_group)
        if not of_groups:
            _check_braking_stays(action, limited, given)
        robot.spec = replace(robot.spec, action=limited, limits=None)
    if missing := robot.spec.without_limits:
        raise ConfigError(
            f"limits of the group {missing[0]!r} are not set. A robot is not moved without limits: "
            f"give limits.{missing[0]}.low, high, velocity and acceleration"
        )
    return robot


def _by_group(action: ActionSpec, limits: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Limits of all numbers of an action as limits of each of its groups that can have some."""
    all_numbers = spread(limits, action.size)
    return {
        group.name: {name: numbers[part] for name, numbers in all_numbers.items()}
        for group, part in action.parts
        if not group.is_discrete
    }


def _limited(action: ActionSpec, limits: Mapping[str, Mapping[str, Any]]) -> ActionSpec:
    """An action whose groups have these limits, in the place of those of their own."""
    return ActionSpec.of(
        *(
            replace(group, limits=Limits.from_dict(limits[group.name], group.size, group.limits))
            if group.name in limits
            else group
            for group in action.groups
        )
    )


def _check_braking_stays(before: ActionSpec, after: ActionSpec, given: Mapping[str, Any]) -> None:
    """Refuse one number for all groups by which one of velocities would stop later than its own.

    It looks like a slower robot, but velocity and acceleration of such a group limit how its
    velocity changes: it would be as fast as before.
    """
    lower = [name for name in ("velocity", "acceleration") if isinstance(given.get(name), Real)]
    for own, group in zip(before.groups, after.groups, strict=True):
        if not group.is_velocity or own.limits is None:
            continue
        names = [name for name in lower if given[name] < max(getattr(own.limits, name))]
        seconds = [MotionFilter(each, 1.0).stopping_seconds for each in (own, group)]
        if names and seconds[1] > seconds[0] * (1 + ROUNDING):
            told = " and ".join(f"limits.{name}={given[name]:g}" for name in names)
            raise ConfigError(
                f"{told} for all groups: of {group.name!r}, a {group.kind}, velocity and "
                "acceleration limit how its velocity changes. It would go as fast as before, and "
                f"take up to {seconds[1]:.3g} s to stop, not {seconds[0]:.3g} s. Slow it by "
                f"limits.{group.name}.low and limits.{group.name}.high, and name the other groups, "
                f"as limits.GROUP.{names[0]}; limits.{group.name}.{names[0]} sets it all the same"
            )


def import_robots(path: Path) -> None:
    """Run a Python file of the user's, who named it, so that it registers its robots."""
    if not path.is_file():
        raise ConfigError(f"module={path}: there is no such file")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise ConfigError(f"module={path}: not a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.path.insert(0, str(path.resolve().parent))  # what it imports lies beside it
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)


@ROBOTS.add("sim_pusht")
def _sim_pusht(**options: Any) -> Robot:
    from dipole.deploy.robots.pusht.robot import SimPushT

    return SimPushT(**options)
