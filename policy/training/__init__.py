"""Training: one loop for all objectives, its state, its logs."""

from dipole.policy.training import objectives  # noqa: F401  they register themselves
from dipole.policy.training.config import EMAConfig, TrainConfig
from dipole.policy.training.frozen import Frozen
from dipole.policy.training.loop import Trainer, TrainingDivergedError
from dipole.policy.training.objective import Average, BehaviourCloning, Objective, ParameterGroup
from dipole.policy.training.optimization.ema import EMA, ema_decay
from dipole.policy.training.state import TrainState
from dipole.policy.training.validation import Validation

__all__ = [
    "EMA",
    "Average",
    "BehaviourCloning",
    "EMAConfig",
    "Frozen",
    "Objective",
    "ParameterGroup",
    "TrainConfig",
    "TrainState",
    "Trainer",
    "TrainingDivergedError",
    "Validation",
    "ema_decay",
]
