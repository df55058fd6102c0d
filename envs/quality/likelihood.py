"""How likely demonstrated chunks are to a policy that has a noise process."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from dipole.envs.quality.held_out import HeldOut
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.likelihood import LevelEstimator, log_likelihood
from dipole.policy.diffusion.predictions import Estimate
from dipole.policy.diffusion.processes import Process
from dipole.policy.diffusion.solvers import SolverStep

ROWS = 16  # observations at once
SPACING = "uniform"  # of the levels, where the process has it
# Levels with less signal for their noise are left out: x is normal there, and what a prediction of
# noise says of the clean chunk is its error a hundred times and more.
LEAST_SIGNAL = 0.01


def demonstrated_likelihood(
    policy: Any, held_out: HeldOut, steps: int, seed: int, pool: ThreadPoolExecutor | None = None
) -> np.ndarray | None:
    """ln p(demonstrated chunk given observation), nats for each number of the normalised chunk,
    [N]; None for a policy without a noise process, and for one that never saw its chunks' ends with
    noise (policy.known).

    steps: Of the probability-flow ODE; each costs two evaluations of the network and their
        gradients. The trace is estimated with one random direction an evaluation (Hutchinson).
    pool: Computes several batches at once. A row's result depends on seed and on its number.
    """
    policy = getattr(policy, "original", None) or policy
    head: Any = getattr(policy, "head", None)
    if not hasattr(head, "process") or not hasattr(head, "estimators"):
        return None
    if getattr(policy, "ends", None) is not None:
        return None
    levels = _levels(head.process, steps)
    starts = range(0, len(held_out), ROWS)

    def batch(start: int) -> np.ndarray:
        rows = slice(start, start + ROWS)
        seen = {name: value[rows] for name, value in held_out.observation.items()}
        chunks = policy.normalize_action(held_out.demonstrated()[rows], seen)
        found = log_likelihood(
            _estimator(policy, seen, levels),
            chunks,
            levels,
            head.process.start_scale(levels[0]),
            probes=1,
            generator=torch.Generator().manual_seed(seed + start),
        )
        each: np.ndarray = found.double().cpu().numpy() / chunks[0].numel()
        return each

    return np.concatenate(list(pool.map(batch, starts) if pool else map(batch, starts)))


def _levels(process: Process, steps: int) -> list[Level]:
    has_it = SPACING in process.spacings(rho=7.0, shift=3.0)
    levels = process.grid(steps, SPACING if has_it else None)
    return [level for level in levels if level.signal >= LEAST_SIGNAL * level.noise]


def _estimator(
    policy: Any, observation: Mapping[str, np.ndarray], levels: list[Level]
) -> LevelEstimator:
    """What the policy's network says of x at one of these levels, given some observations, in the
    robot's numbers."""
    table = [SolverStep(level, level) for level in levels if not level.is_clean]
    with torch.no_grad():
        context = policy.encode(policy.seen(observation))
        found = policy.head.estimators(table, policy.head.prepared_times(table), context)
    by_level = {step.level: estimate for step, estimate in zip(table, found, strict=True)}

    def estimate(x: torch.Tensor, level: Level) -> Estimate:
        said: Estimate = by_level[level](x)
        return said

    return estimate
