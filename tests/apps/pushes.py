"""Demonstrations as Push-T could have them, for the commands' tests."""

import numpy as np

from dipole.data import EpisodeWriter


def write_pushes(path):
    """Three episodes of states and actions."""
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10.0) as writer:
        for length in (30, 40, 25):
            positions = 256 + rng.normal(0, 8, (length, 4)).cumsum(0)
            angle = rng.normal(0, 0.1, (length, 1)).cumsum(0)
            state = np.concatenate([positions, angle], 1).astype(np.float32)
            writer.add_episode({"state": state, "action": state[:, :2]})
    return path
