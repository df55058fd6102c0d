"""What a run is made of while it trains, and how it is saved and taken up again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dipole.data.core.errors import CheckpointError
from dipole.policy.checkpoint import (
    Checkpoint,
    policy_config,
    read_tensors,
    read_training,
    save_checkpoint,
)
from dipole.policy.checkpoint.weights import load_tensors, stored_tensors
from dipole.policy.policy import Policy
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.optimization.ema import EMA
from dipole.policy.training.optimization.optimizer import (
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
)


@dataclass
class TrainState:
    """The policy with its optimiser and moving average after `step` updates."""

    policy: Policy
    ema: EMA
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def new(cls, policy: Policy, config: TrainConfig) -> "TrainState":
        policy.train()
        return cls(policy, EMA(policy, config.ema), make_optimizer(policy, config))

    def kept_tensors(self) -> dict[str, list[Tensor]]:
        """What of a checkpoint has to be numbers, by the name that a message gives it."""
        return {
            "the weights": list(self.policy.parameters()),
            "their averages": list(self.ema.model.parameters()),
            "the optimiser's averages": list(
                optimizer_tensors(self.optimizer, self.policy).values()
            ),
        }

    def save(self, run: Path, config: TrainConfig, origin: Mapping[str, Any]) -> Path:
        """Write RUN/checkpoints/STEP. origin: further JSON for config.json (dataset, command)."""
        folder = run / "checkpoints" / f"{self.step:08d}"
        tensors: dict[str, Mapping[str, Tensor]] = {
            "model": stored_tensors(self.policy),
            "ema": stored_tensors(self.ema.model),
            "training": optimizer_tensors(self.optimizer, self.policy),
        }
        training = {"step": self.step, "ema_updates": self.ema.updates}
        written = {**origin, **policy_config(self.policy), "train": asdict(config)}
        save_checkpoint(folder, Checkpoint(written, tensors, training))
        return folder

    def load(self, folder: Path) -> None:
        """Take up where the checkpoint was written. Raises CheckpointError if it does not fit."""
        training = read_training(folder)
        try:
            load_tensors(self.policy, read_tensors(folder, "model"))
            load_tensors(self.ema.model, read_tensors(folder, "ema"))
        except RuntimeError as error:
            raise CheckpointError(f"{folder}: is of another policy: {error}") from error
        load_optimizer_tensors(self.optimizer, self.policy, read_tensors(folder, "training"))
        try:
            self.step, self.ema.updates = int(training["step"]), int(training["ema_updates"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{folder / 'training.json'}: {error} is missing or no number"
            ) from error
