"""Whether a robot and a policy belong together: what was trained is what is driven.

Shapes and dtypes have to agree. Names with their order, units and the rate are compared where both
sides know them, and a difference may be accepted by name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dipole.data.core.errors import ConfigError
from dipole.data.core.units import same_units, units_text
from dipole.deploy.loop.config import rates_differ
from dipole.deploy.robots.groups import Kind
from dipole.deploy.robots.robot import RobotSpec
from dipole.deploy.types import Meaning, PolicySpec

WHAT_TO_DO = {
    "units": "convert them in the robot's observe() and command(), and declare that unit",
    "names": "give and take the numbers in the policy's order, and declare its names",
    "rate": "leave deploy.policy_hz out",
}


@dataclass(frozen=True)
class Mismatch:
    """What differs between robot and policy.

    kinds: "rate", "units", "names", what accept_mismatch calls them.
    text: What it is, with both sides.
    """

    kinds: tuple[str, ...]
    text: str


def check_fit(
    robot: RobotSpec,
    policy: PolicySpec,
    accept: Sequence[str] = (),
    policy_hz: float | None = None,
) -> list[str]:
    """What was found different and accepted: a note for the report each.

    accept: kinds of differences that are accepted: "units", "names", "rate".
    policy_hz: rate at which the policy's actions will be sent.
    Raises ConfigError, naming both sides, where the robot does not see, or do, what the policy
    does, and for each difference that is not accepted.
    """
    _check_shapes(robot, policy)
    found = list(mismatches(robot, policy, policy_hz))
    refused = [one for one in found if not set(one.kinds) <= set(accept)]
    if refused:
        kinds = dict.fromkeys(k for one in refused for k in one.kinds if k not in accept)
        remedies = ", and ".join(WHAT_TO_DO[kind] for kind in kinds)
        raise ConfigError(
            f"{'; '.join(one.text for one in refused)}. To do: {remedies}; or accept it by "
            f"deploy.accept_mismatch=[{','.join([*accept, *kinds])}], which the report will say"
        )
    return [
        f"accepted by deploy.accept_mismatch=[{','.join(one.kinds)}]: {one.text}" for one in found
    ]


def unknown_angles(robot: RobotSpec) -> list[str]:
    """A note for the report on each group whose joints might be angles that wrap, unnoticed."""
    return [
        f"group {group.name!r} has no unit, so angles that wrap would not be noticed: declare "
        "ActionGroup(unit=...), or ActionSpec(unit=...), such as 'rad' or 'm'"
        for group in robot.action.groups
        if group.kind == Kind.JOINT_POSITION and not any(group.units)
    ]


def mismatches(
    robot: RobotSpec, policy: PolicySpec, policy_hz: float | None = None
) -> Iterator[Mismatch]:
    """Differences in rate, units and names between a robot and a policy of the same shapes."""
    if policy_hz is not None and rates_differ(policy_hz, policy.fps):
        yield Mismatch(
            ("rate",),
            f"the policy was trained on demonstrations of {policy.fps:g} frames a second; "
            f"its actions are sent at {policy_hz:g} Hz",
        )
    for name, shape in policy.observation.items():
        channel = robot.observation[name]
        size = shape[-1] if shape else 1
        ours = Meaning(channel.names, channel.units)
        implied = () if channel.names else _measuring(robot, name)
        yield from _apart(f"observation {name!r}", policy.meaning_of(name), ours, size, implied)
    action = Meaning(robot.action.names, robot.action.units)
    yield from _apart("the action", policy.meaning_of("action"), action, robot.action.size)


def _measuring(robot: RobotSpec, name: str) -> tuple[str, ...]:
    """The names of the numbers that an observation measures, if it measures one whole group."""
    groups = [group for group in robot.action.groups if group.measured_by == name]
    return groups[0].names if len(groups) == 1 and not groups[0].columns else ()


def _apart(
    what: str, policy: Meaning, robot: Meaning, size: int, implied: tuple[str, ...] = ()
) -> Iterator[Mismatch]:
    """implied: names that the robot does not declare for this, but whose order it promises."""
    reordered = sorted(policy.names) == sorted(robot.names or implied)
    robot = replace(robot, names=robot.names or (implied if reordered else ()))
    other: dict[str, str] = {}
    if not same_units(policy.units, robot.units, size):
        other["units"] = "other units"
    if policy.names and robot.names and policy.names != robot.names:
        other["names"] = "another order" if reordered else "other names"
    if other:
        yield Mismatch(
            tuple(other),
            f"{what} has {' and '.join(other.values())}: the policy was trained on "
            f"{_described(policy)}; the robot has {_described(robot)}",
        )


def _described(meaning: Meaning) -> str:
    names = f"({', '.join(meaning.names)}) " if meaning.names else ""
    return f"{names}in {units_text(meaning.units) or 'unknown units'}"


def _check_shapes(robot: RobotSpec, policy: PolicySpec) -> None:
    for name, shape in policy.observation.items():
        channel = robot.observation.get(name)
        if channel is None:
            raise ConfigError(
                f"the policy observes {name!r}, the robot has {', '.join(robot.observation)}"
            )
        if channel.shape != shape:
            raise ConfigError(
                f"the policy observes {name!r} with shape {list(shape)}, the robot gives "
                f"{list(channel.shape)}"
            )
        trained = policy.meaning_of(name).dtype
        if trained and channel.dtype != trained:
            raise ConfigError(
                f"the policy observes {name!r} as {trained}, the robot gives {channel.dtype}: "
                f"convert it in observe(), and declare Channel({channel.shape}, {trained!r})"
            )
    if robot.action.size != policy.action_size:
        raise ConfigError(
            f"the policy's actions have {policy.action_size} numbers, the robot's "
            f"{robot.action.size} ({', '.join(robot.action.names)})"
        )
