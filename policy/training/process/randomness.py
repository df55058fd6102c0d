"""Randomness as a function of (seed, step), so that resuming needs no generator's state."""

import random

import numpy as np
import torch


def seed_step(seed: int, step: int, micro: int = 0, update: int = 0, rank: int = 0) -> None:
    """Seed every global generator for one batch of one step.

    micro: Number of the batch within the step.
    update: Number of the update within the step, of objectives with several.
    rank: 0 of a process alone; of several, which share what `RowDraws` draws, another for each.

    Whatever draws during step n (noise, denoising steps, dropout, augmentation) draws the same
    after a resumption as without one, whatever else drew in between (validation, evaluation).
    """
    for_torch, others = step_seeds(seed, step, micro, update, rank)
    torch.manual_seed(for_torch)
    np.random.seed(others)
    random.seed(others)


def step_seeds(
    seed: int, step: int, micro: int = 0, update: int = 0, rank: int = 0
) -> tuple[int, int]:
    """What torch's generators are seeded with in `seed_step`, and what numpy's and Python's are."""
    entropy = [seed, step, micro, *((update, rank) if update or rank else ())]
    state = np.random.SeedSequence(entropy).generate_state(3, np.uint32)
    return int(state[0]) << 31 ^ int(state[1]), int(state[2])
