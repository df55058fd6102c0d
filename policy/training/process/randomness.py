"""Randomness as a function of (seed, step), so that resuming needs no generator's state."""

import random

import numpy as np
import torch


def seed_step(seed: int, step: int, micro: int = 0, update: int = 0, rank: int = 0) -> None:
    """Seed every global generator for one batch of one step.

    micro: Number of the batch within the step.
    update: Number of the update within the step, of objectives with several.
    rank: Of this process: the rows of a batch that others compute have other noise.

    Whatever draws during step n (noise, denoising steps, dropout, augmentation) draws the same
    after a resumption as without one, whatever else drew in between (validation, evaluation).
    """
    entropy = [seed, step, micro, *((update, rank) if update or rank else ())]
    state = np.random.SeedSequence(entropy).generate_state(3, np.uint32)
    torch.manual_seed(int(state[0]) << 31 ^ int(state[1]))
    np.random.seed(int(state[2]))
    random.seed(int(state[2]))
