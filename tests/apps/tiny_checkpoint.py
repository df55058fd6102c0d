"""A policy for Push-T that was never trained: it wanders about its normalised space."""

from dipole.data import Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.checkpoint import Checkpoint, policy_config, save_checkpoint


def save_tiny(folder, fps=None, centre=0.0, **action):
    """fps and action: what the demonstrations said of their rate and of the action's numbers.
    centre: All actions are within 1 of it."""
    features = Features(
        {"keypoint": Feature((9, 2)), "agent_pos": Feature((2,))},
        Feature((2,), kind="action", **action),
        fps,
    )
    denoiser = {"name": "unet1d", "down_dims": [8, 16], "time_embed_dim": 8}
    policy = Policy(PolicyConfig(denoiser=denoiser), features, WindowSpec())
    weights = policy.state_dict()
    weights["normalizers.action.offset"] -= centre
    save_checkpoint(folder, Checkpoint(policy_config(policy), {"ema": weights}, {}))
    return folder
