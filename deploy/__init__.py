"""Deployment: a policy moves a robot, in real time and within limits.

Time is real here, and only here. Nothing that runs on the robot's side imports torch.
"""

from dipole.deploy.loop.clock import RealClock, VirtualClock
from dipole.deploy.loop.config import LoopConfig
from dipole.deploy.loop.control_loop import ControlLoop
from dipole.deploy.loop.states import State
from dipole.deploy.robots.channel import Channel
from dipole.deploy.robots.dry_run import DryRun
from dipole.deploy.robots.groups import ActionGroup, ActionSpec
from dipole.deploy.robots.robot import Reading, Robot, RobotSpec
from dipole.deploy.robots.sensors import Polled, newest_reading
from dipole.deploy.safety.limits import Limits

__all__ = [
    "ActionGroup",
    "ActionSpec",
    "Channel",
    "ControlLoop",
    "DryRun",
    "Limits",
    "LoopConfig",
    "Polled",
    "Reading",
    "RealClock",
    "Robot",
    "RobotSpec",
    "State",
    "VirtualClock",
    "newest_reading",
]
