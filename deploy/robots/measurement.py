"""Whether what measures a group is what its action sets: the same numbers, units and rotation."""

import math
from collections.abc import Mapping
from dataclasses import replace

from dipole.data.core.errors import ConfigError
from dipole.data.core.units import each_unit, same_units
from dipole.data.transforms import rotation as rotations
from dipole.deploy.robots.channel import Channel
from dipole.deploy.robots.groups import ActionGroup


def check_measurement(group: ActionGroup, channels: Mapping[str, Channel]) -> None:
    """Compare what a group declares with the channel that it is measured by, if there is one.

    Names, units and rotations are compared where the channel declares them.
    channels: of the robot's observation, by name. Raises ConfigError.
    """
    if not group.measured_by:
        return
    channel = channels.get(group.measured_by)
    if channel is None:
        raise ConfigError(
            f"action group {group.name!r}: measured_by is {group.measured_by!r}; the robot "
            f"declares {', '.join(channels) or 'no observation'}"
        )
    checks = (_size_problem, _name_problem, _unit_problem, _rotation_problem)
    for check in checks:
        if problem := check(group, channel):
            raise ConfigError(f"action group {group.name!r}: {group.measured_by!r} {problem}")


def in_measured_units(group: ActionGroup, channels: Mapping[str, Channel]) -> ActionGroup:
    """A position without a unit, in the unit of what measures it; any other group as it is.

    channels: of the robot's observation, by name; they fit, see check_measurement.
    """
    straight = _columns(group)[: group.size - group.turning]
    if group.unit or not group.is_position or group.measured_range is not None or not straight:
        return group
    channel = channels[group.measured_by]
    units = each_unit(channel.units, channel.width)
    found = [units[column % channel.width] for column in straight]
    if not any(found):
        return group
    return replace(group, unit=found[0] if len(set(found)) == 1 else ", ".join(found))


def _columns(group: ActionGroup) -> tuple[int, ...]:
    return group.columns or tuple(range(group.size))


def _size_problem(group: ActionGroup, channel: Channel) -> str:
    count = math.prod(channel.shape)
    if max(group.columns) < count if group.columns else count == group.size:
        return ""
    return (
        f"has shape {channel.shape}, and {group.size} numbers of it are needed: say which in "
        "columns="
    )


def _name_problem(group: ActionGroup, channel: Channel) -> str:
    """With columns, only a name that both know may not stand for two numbers."""
    if not channel.names:
        return ""
    measured = tuple(channel.names[column] for column in _columns(group))
    pairs = zip(measured, group.names, strict=True)
    known = set(channel.names) & set(group.names)
    if measured == group.names or (
        group.columns and not any({a, b} & known for a, b in pairs if a != b)
    ):
        return ""
    found = tuple(channel.names.index(name) for name in group.names if name in channel.names)
    which = found if len(found) == group.size else _columns(group)
    confirmed = "" if len(found) == group.size else ", if these are the same numbers"
    return (
        f"measures {', '.join(measured)} where the action sets {', '.join(group.names)}: correct "
        "the names, or say which numbers of it measure the group, by its "
        f"ActionGroup(columns={which}){confirmed}"
    )


def _unit_problem(group: ActionGroup, channel: Channel) -> str:
    if group.measured_range is not None:
        return ""
    units = each_unit(channel.units, channel.width)
    measured = (units[column % channel.width] for column in _columns(group))
    for name, unit, wanted in zip(group.names, measured, group.units, strict=True):
        if not same_units(unit, wanted, 1):
            return (
                f"measures {name} in {unit!r}; the action sets it in {wanted!r}: convert it in "
                "observe(), and declare that unit (for a gripper, measured_range= does)"
            )
    return ""


def _rotation_problem(group: ActionGroup, channel: Channel) -> str:
    columns = _columns(group)
    turning = columns[group.size - group.turning :]
    for row in range(0, math.prod(channel.shape), channel.width):
        for start, written in channel.all_rotations:
            declared = tuple(range(row + start, row + start + rotations.SIZES[written]))
            if not set(declared) & set(columns):
                continue
            if (declared, written) != (turning, group.rotation):
                ours = f"'s rotation is {group.rotation!r} at columns {turning}"
                return (
                    f"has a {written} at {row + start}; the action"
                    f"{ours if group.turning else ' has no rotation there'}: declare both as it "
                    "is measured, or convert it in observe()"
                )
    return ""
