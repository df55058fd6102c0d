"""Checkpoints: folders that appear whole or not at all, and whose loading executes nothing."""

from dipole.policy.checkpoint.checkpoint_folder import (
    Checkpoint,
    best_checkpoint,
    best_score,
    build_policy,
    checkpoints_of,
    export_terms,
    find_checkpoint,
    kept_checkpoints,
    load_policy,
    mark_best,
    policy_config,
    prune_checkpoints,
    read_config,
    read_tensors,
    read_training,
    save_checkpoint,
    weights_source,
)
from dipole.policy.checkpoint.located import located, origin

__all__ = [
    "Checkpoint",
    "best_checkpoint",
    "best_score",
    "build_policy",
    "checkpoints_of",
    "export_terms",
    "find_checkpoint",
    "kept_checkpoints",
    "load_policy",
    "located",
    "mark_best",
    "origin",
    "policy_config",
    "prune_checkpoints",
    "read_config",
    "read_tensors",
    "read_training",
    "save_checkpoint",
    "weights_source",
]
