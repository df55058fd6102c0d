"""Whether a robot and a policy belong together."""

from dipole.data.errors import ConfigError
from dipole.deploy.robots.robot import RobotSpec
from dipole.deploy.types import PolicySpec


def check_fit(robot: RobotSpec, policy: PolicySpec) -> None:
    """Raises ConfigError where the robot does not see, or do, what the policy does."""
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
    if robot.action.size != policy.action_size:
        raise ConfigError(
            f"the policy's actions have {policy.action_size} numbers, the robot's "
            f"{robot.action.size} ({', '.join(robot.action.names)})"
        )
