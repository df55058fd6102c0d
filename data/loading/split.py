"""Which episodes train and which are held out."""

import numpy as np

from dipole.data.core.errors import ConfigError


def split_episodes(
    n_episodes: int, val_ratio: float = 0.02, seed: int = 42, max_train: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the training and of the validation episodes, each int64 and sorted.

    At least one episode is held out where the ratio is above 0, and at least one is left to train
    on; `max_train` keeps that many of the training episodes. The draws are those of the published
    Diffusion Policy runs. Raises ConfigError for values that cannot be split by.
    """
    if n_episodes < 1:
        raise ConfigError(f"cannot split {n_episodes} episodes: at least one is needed")
    if not 0 <= val_ratio < 1:
        raise ConfigError(f"val_ratio is {val_ratio}: it must be at least 0 and below 1")
    if max_train is not None and max_train < 1:
        raise ConfigError(f"max_train is {max_train}: keep at least one episode, or none for all")
    held_out = 0 if val_ratio == 0 else min(max(1, round(n_episodes * val_ratio)), n_episodes - 1)
    chosen = np.random.default_rng(seed).choice(n_episodes, size=held_out, replace=False)
    validation = np.sort(chosen).astype(np.int64)
    train = np.setdiff1d(np.arange(n_episodes), validation)
    if max_train is not None and max_train < len(train):
        # A fresh generator with the same seed, as in the reference.
        kept = np.random.default_rng(seed).choice(len(train), size=max_train, replace=False)
        train = np.sort(train[kept])
    return train, validation
