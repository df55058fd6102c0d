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
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import Registry
from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.robots.robot import Robot, RobotSpec
from dipole.deploy.safety.limits import Limits

ROBOTS: Registry[Callable[..., Robot]] = Registry("robot")


def make_robot(
    name: str, options: Mapping[str, Any] | None = None, limits: Mapping[str, Any] | None = None
) -> Robot:
    """A robot by name, with its options, and with limits where these are given.

    limits: {low, high, velocity, acceleration} of all numbers of an action, or {group: {low, ...}}
    of some of its groups. Raises ConfigError for an unknown name or option, and for a robot that
    then has no limits.
    """
    build = ROBOTS[name]
    try:
        robot = build(**(options or {}))
    except TypeError as error:
        raise ConfigError(f"robot {name!r} does not take these options: {error}") from None
    given = {key: value for key, value in (limits or {}).items() if value is not None}
    names = [group.name for group in robot.spec.action.groups]
    if given and set(given) <= set(names):
        robot.spec = _with_group_limits(robot.spec, given)
    elif given or robot.spec.without_limits == tuple(names):
        checked = Limits.from_dict(given, robot.spec.action.size)
        robot.spec = replace(robot.spec, limits=checked)
    if missing := robot.spec.without_limits:
        raise ConfigError(
            f"limits of the group {missing[0]!r} are not set. A robot is not moved without limits: "
            f"give limits.{missing[0]}.low, high, velocity and acceleration"
        )
    return robot


def _with_group_limits(spec: RobotSpec, given: Mapping[str, Any]) -> RobotSpec:
    groups = [
        group.with_limits(Limits.from_dict(given[group.name], group.size))
        if group.name in given
        else group
        for group in spec.action.groups
    ]
    return replace(spec, action=ActionSpec.of(*groups), limits=None)


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
