"""Robots: declaration, registry, dry run, simulated robots."""

from dipole.deploy.robots.channel import Channel
from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.robots.registry import ROBOTS, make_robot
from dipole.deploy.robots.robot import Reading, Robot, RobotSpec

__all__ = ["ROBOTS", "ActionSpec", "Channel", "Reading", "Robot", "RobotSpec", "make_robot"]
