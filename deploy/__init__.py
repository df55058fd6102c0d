"""Deployment: a policy moves a robot, in real time and within limits.

Time is real here, and only here. Nothing that runs on the robot's side imports torch.
"""

from dipole.deploy.clock import RealClock, VirtualClock
from dipole.deploy.config import LoopConfig
from dipole.deploy.dry_run import DryRun
from dipole.deploy.limits import Limits
from dipole.deploy.loop import ControlLoop
from dipole.deploy.robot import ActionSpec, Channel, Reading, Robot, RobotSpec
from dipole.deploy.states import State

__all__ = [
    "ActionSpec",
    "Channel",
    "ControlLoop",
    "DryRun",
    "Limits",
    "LoopConfig",
    "Reading",
    "RealClock",
    "Robot",
    "RobotSpec",
    "State",
    "VirtualClock",
]
