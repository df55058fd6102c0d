"""Episodes simulated: simulators in slots, in this process or in others."""

from dipole.envs.rollout.simulator import (
    MOST_STEPS,
    Command,
    Environment,
    EnvironmentFactory,
    LocalSlots,
    RolloutError,
    Simulator,
    SimulatorPool,
    Slots,
    Turn,
    either,
)

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
