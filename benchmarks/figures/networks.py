"""The networks that are measured, with the same weights in the plain layers and in ours."""

from typing import Any

import torch
from torch import nn

from dipole.benchmarks.figures.plain import plain_unet
from dipole.data import Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.denoisers import ConditionalUnet1D
from dipole.policy.denoisers.base import Denoiser
from dipole.policy.diffusion.solvers import DDIM
from dipole.policy.heads import DiffusionHead

# Push-T from its keypoints, as in configs/policy and configs/task.
NETWORKS: dict[str, dict[str, Any]] = {
    "unet_small": {"down_dims": (64, 128, 256), "time_embed_dim": 128},
    "unet": {"down_dims": (256, 512, 1024), "time_embed_dim": 256},
}
BATCH_SIZES = {"unet_small": 128, "unet": 256}
FEATURES = Features(
    {"keypoint": Feature((9, 2)), "agent_pos": Feature((2,))}, Feature((2,), kind="action")
)
STEPS = 10


def window(horizon: int) -> WindowSpec:
    return WindowSpec(n_obs_steps=2, horizon=horizon, n_action_steps=8)


def plain_network(name: str) -> ConditionalUnet1D:
    """With random weights, the same every time."""
    torch.manual_seed(0)
    return plain_unet(action_dim=2, context_dim=40, **NETWORKS[name])


def our_policy(name: str, horizon: int = 16, steps: int = STEPS) -> Policy:
    """A policy with the plain network's weights; its normalisers are the identity."""
    denoiser = {
        "name": "unet1d",
        **NETWORKS[name],
        "down_dims": list(NETWORKS[name]["down_dims"]),
    }
    policy = Policy(PolicyConfig(denoiser=denoiser), FEATURES, window(horizon))
    denoiser_of(policy).load_state_dict(plain_network(name).state_dict())
    policy.solver = DDIM(steps)
    return policy


def denoiser_of(policy: Policy) -> Denoiser:
    """The network that a diffusion policy denoises by."""
    assert isinstance(policy.head, DiffusionHead)
    return policy.head.denoiser


def training_flops(name: str, batch: int, horizon: int = 16) -> float:
    """Multiplications and additions of a training step as the definition counts them: the forward
    pass's products, and twice as many backward."""
    return 3.0 * forward_flops(name, horizon) * batch


def forward_flops(name: str, horizon: int = 16) -> float:
    """Multiplications and additions of the denoiser's products over one chunk."""
    return product_flops(
        plain_network(name), torch.zeros(1, horizon, 2), torch.zeros(1), torch.zeros(1, 40)
    )


def product_flops(network: nn.Module, *inputs: torch.Tensor) -> float:
    """Multiplications and additions of a network's products, as the definition counts them."""
    total = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        where = inputs[0] if isinstance(module, nn.ConvTranspose1d) else output
        channels = where.shape[-1 if isinstance(module, nn.Linear) else 1]
        total += 2 * weight.numel() * where.numel() // channels

    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(*inputs)
    return float(total)


def loop_weights(name: str) -> tuple[int, int]:
    """Parameters read in every denoising step, and those read once a chunk."""
    return weights_of_loop(our_policy(name))


def weights_of_loop(policy: Policy) -> tuple[int, int]:
    """The same of a policy's denoiser."""
    sizes = {key: p.numel() for key, p in denoiser_of(policy).named_parameters()}
    once = sum(size for key, size in sizes.items() if ".film." in key or "time_emb" in key)
    return sum(sizes.values()) - once, once
