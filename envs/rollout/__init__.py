"""Episodes simulated: simulators in slots, in this process or in others."""

from dipole.envs.errors import RolloutError
from dipole.envs.rollout.messages import Command, Turn, either
from dipole.envs.rollout.simulator import Simulator, SimulatorPool
from dipole.envs.rollout.slots import LocalSlots, Slots
from dipole.envs.rollout.stepping import MOST_STEPS, Environment, EnvironmentFactory

__all__ = [
    "MOST_STEPS",
    "Command",
    "Environment",
    "EnvironmentFactory",
    "LocalSlots",
    "RolloutError",
    "Simulator",
    "SimulatorPool",
    "Slots",
    "Turn",
    "either",
]
