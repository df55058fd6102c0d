"""Which policy is to be computed, said without importing what computes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dipole.deploy.inference import Compute, PolicySpec


@dataclass(frozen=True)
class FromCheckpoint:
    """Makes a checkpoint's policy where it is called: in the inference process, which alone
    imports torch. See policy_compute.checkpoint_compute for the fields."""

    checkpoint: str
    device: str = "cpu"
    weights: str = "ema"
    solver: Mapping[str, Any] = field(default_factory=dict)
    runtime: str | None = None
    threads: int | None = None
    seed: int = 0

    def __call__(self) -> tuple[PolicySpec, Compute]:
        from dipole.deploy.policy_compute import checkpoint_compute

        return checkpoint_compute(
            self.checkpoint,
            device=self.device,
            weights=self.weights,
            solver=self.solver,
            runtime=self.runtime,
            threads=self.threads,
            seed=self.seed,
        )
