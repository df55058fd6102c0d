"""Small policies with cameras, for the tests of encoders and of what uses them."""

import torch

from dipole.data import Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.encoders.cameras.cameras_encoder import CamerasEncoder

WINDOW = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
SMALL_UNET = {"name": "unet1d", "down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8}
TINY_RESNET = {"name": "resnet", "stem": "patches", "widths": [16, 32], "blocks": [1, 1]}


def features(**cameras: tuple[int, int]) -> Features:
    """An agent's position, and cameras by name with their height and width."""
    seen = {name: Feature((*size, 3), kind="image") for name, size in cameras.items()}
    return Features({**seen, "agent_pos": Feature((2,))}, Feature((2,), kind="action"))


def make_policy(wanted: Features | None = None, guidance=None, **encoder) -> Policy:
    """In training mode, with a tiny eye for each camera unless told otherwise."""
    torch.manual_seed(0)
    options = {"backbone": TINY_RESNET, "dim": 6, **encoder}
    config = PolicyConfig({"name": "image", **options}, SMALL_UNET, guidance=guidance)
    return Policy(config, wanted or features(front=(32, 32)), WINDOW)


def cameras(policy: Policy) -> CamerasEncoder:
    """The part of its encoder that encodes pictures."""
    return policy.encoder.parts["cameras"]
