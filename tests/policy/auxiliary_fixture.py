"""Runs of objective=auxiliary on a small dataset of two cameras, for its tests."""

import numpy as np
import torch
from eyes_fixture import SMALL_UNET, TINY_RESNET

from dipole.data import EpisodeWriter

TARGETS = {"joints": {"weight": 0.5}, "later": {"of": "joints", "ahead": 2, "cameras": "each"}}
AUXILIARY = {"name": "auxiliary", "targets": TARGETS, "decay": "linear", "decay_share": 1.0}


def write(path):
    """A joint and a gripper, the brightness of two cameras' pictures."""
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10) as writer:
        for length in (14, 12, 11):
            joints = rng.uniform(0, 1, (length, 2)).astype(np.float32)
            bytes_ = (255 * joints).astype(np.uint8)
            pictures = [np.tile(bytes_[:, n, None, None, None], (1, 32, 32, 3)) for n in (0, 1)]
            writer.add_episode(
                {
                    "joints": joints,
                    "action": joints,
                    "front": pictures[0],
                    "wrist": pictures[1],
                }
            )
    return path


def configuration(dataset, objective=None, **train):
    """What `dipole train` composes, as far as a run needs it."""
    camera = {"shape": [32, 32, 3], "kind": "image"}
    return {
        "task": {
            "name": "arm",
            "dataset": str(dataset),
            "window": {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4},
            "observation": {
                "front": camera,
                "wrist": camera,
                "joints": {"shape": [2], "kind": "state", "units": ["rad", "m"]},
            },
            "action": {"shape": [2], "kind": "action"},
            "split": {"val_ratio": 0.34, "seed": 0},
        },
        "dataset": None,
        "policy": {
            "encoder": {"name": "image", "backbone": TINY_RESNET, "dim": 6},
            "denoiser": SMALL_UNET,
            "head": {"name": "regression"},
        },
        "objective": objective or {"name": "behaviour_cloning"},
        "train": {
            "steps": 4,
            "batch_size": 6,
            "warmup_steps": 1,
            "learning_rate": 1e-3,
            "device": "cpu",
            "threads": 1,
            "deterministic": True,
            "checkpoint_every": 2,
            "validate_every": 2,
            "log_every": 2,
            **train,
        },
        "evaluate": {},
    }


def tensors(batch):
    return {
        name: tensors(one) if isinstance(one, dict) else torch.as_tensor(one)
        for name, one in batch.items()
    }


def silent(_line):
    pass
