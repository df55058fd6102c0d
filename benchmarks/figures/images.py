"""A training step and a chunk from pixels: the plain way, as it is usually written, and ours.

The plain way: bytes become floats in [0, 1], a crop is cut from each picture (a random one in
training, else the middle), torch's own layers compute in torch's own memory, and a spatial softmax
follows. A chunk encodes once, and denoises in diffusers' loop.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dipole.benchmarks.figures.chunks import predicting, timed
from dipole.benchmarks.figures.networks import STEPS, product_flops, weights_of_loop, window
from dipole.benchmarks.figures.plain import plain_chunk, plain_scheduler, plain_unet
from dipole.benchmarks.figures.training import our_training, plain_training
from dipole.benchmarks.figures.turns import Work
from dipole.data import Feature, Features
from dipole.policy import Policy, PolicyConfig
from dipole.policy.diffusion.solvers import DDIM
from dipole.policy.encoders.cameras.backbones.resnet import ResNet
from dipole.policy.encoders.cameras.convolutions.group_norm import PictureGroupNorm
from dipole.policy.encoders.cameras.convolutions.layer import PictureConv2d
from dipole.policy.encoders.cameras.pooling import SpatialSoftmax

SIZE, CROP, FRAMES = 96, 84, 2
# As in configs/policy; resnet18_small is the published encoder before the small U-Net.
SMALL_UNET = {"down_dims": (64, 128, 256), "time_embed_dim": 128}
SMALL_RESNET = {"widths": (32, 64), "blocks": (1, 2), "stem": "patches"}
IMAGE_NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unet_image_small": (SMALL_RESNET, SMALL_UNET),
    "resnet18_small": ({}, SMALL_UNET),
    "unet_image": ({}, {"down_dims": (512, 1024, 2048), "time_embed_dim": 128}),
}
FEATURES = Features(
    {"image": Feature((SIZE, SIZE, 3), kind="image"), "agent_pos": Feature((2,))},
    Feature((2,), kind="action"),
)
CONTEXT = FRAMES * (64 + 2)


class PlainImagePolicy(nn.Module):
    """ResNet, spatial softmax and U-Net of torch's own layers."""

    def __init__(self, network: str) -> None:
        super().__init__()
        resnet, unet = IMAGE_NETWORKS[network]
        self.resnet = plain_resnet(ResNet(**resnet))
        self.pooling = SpatialSoftmax(self.resnet.channels)
        self.project = nn.Linear(self.pooling.dim, 64)
        self.unet = plain_unet(action_dim=2, context_dim=CONTEXT, **unet)

    def context(self, images: Tensor, state: Tensor) -> Tensor:
        """images: [B, 2, 3, H, W] in [0, 1]; state: [B, 2, 2]."""
        cut = (random_crops if self.training else middle_crops)(images.flatten(0, 1))
        vectors = self.project(self.pooling(self.resnet((cut - 0.5) / 0.5)))
        return torch.cat([vectors.unflatten(0, (-1, FRAMES)), state], 2).flatten(1)

    def forward(self, images: Tensor, state: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        out: Tensor = self.unet(noisy, time, self.context(images, state))
        return out


def random_crops(images: Tensor) -> Tensor:
    """[N, 3, H, W] -> [N, 3, CROP, CROP], each from a place of its own."""
    places = torch.randint(SIZE - CROP + 1, (len(images), 2)).tolist()
    cut = [
        image[:, top : top + CROP, left : left + CROP]
        for image, (top, left) in zip(images, places, strict=True)
    ]
    return torch.stack(cut)


def middle_crops(images: Tensor) -> Tensor:
    """[N, 3, H, W] -> [N, 3, CROP, CROP]."""
    start = (SIZE - CROP) // 2
    return images[:, :, start : start + CROP, start : start + CROP]


def plain_resnet(resnet: ResNet) -> ResNet:
    """The same network of torch's layers, with the ReLU before the pooling, as published."""
    for parent in list(resnet.modules()):
        for name, child in parent.named_children():
            if isinstance(child, PictureConv2d):
                size = child.in_channels, child.out_channels, child.kernel_size
                plain = nn.Conv2d(*size, child.stride, child.padding, bias=False)  # type: ignore[arg-type]
                plain.weight = child.weight
                setattr(parent, name, plain)
            if isinstance(child, PictureGroupNorm):
                setattr(parent, name, nn.GroupNorm(child.num_groups, child.num_channels))
    stem = list(resnet.stem)
    if isinstance(stem[-1], nn.ReLU) and isinstance(stem[-2], nn.MaxPool2d):
        resnet.stem = nn.Sequential(*stem[:-2], stem[-1], stem[-2])
    return resnet


def plain_step(network: str, batch: int, threads: int, bf16: bool = False, steps: int = 1) -> Any:
    """See the head of this file; one thread or all, whichever is faster."""
    torch.manual_seed(0)
    model = PlainImagePolicy(network)
    pictures, state, actions = _batch(batch)

    def predict(noisy: Tensor, time: Tensor) -> Tensor:
        images = pictures.permute(0, 1, 4, 2, 3).float() / 255
        out: Tensor = model(images, state, noisy, time)
        return out

    return plain_training(model, predict, actions, threads, bf16, steps)


def our_step(network: str, batch: int, threads: int, bf16: bool = False, steps: int = 1) -> Any:
    """What the trainer does in a step."""
    pictures, state, actions = _batch(batch)
    data = {"observation": {"image": pictures, "agent_pos": state}, "action": actions}
    return our_training(our_policy(network), data, threads, bf16, steps)


def plain_chunks(network: str, threads: int) -> tuple[Work, dict[str, Any]]:
    """One chunk after another; see the head of this file."""
    torch.manual_seed(0)
    model = PlainImagePolicy(network).eval().requires_grad_(False)
    scheduler = plain_scheduler(STEPS)
    pictures, state, noise = _seeded_batch()

    def work() -> Tensor:
        with torch.inference_mode():
            context = model.context(pictures.permute(0, 1, 4, 2, 3).float() / 255, state)
            return plain_chunk(model.unet, scheduler, context, noise)

    return timed(work, threads)


def our_chunks(network: str, threads: int, runtime: str) -> tuple[Work, dict[str, Any]]:
    """The same of a policy in one of the runtimes, or eager."""
    policy = our_policy(network)
    policy.solver = DDIM(STEPS)
    pictures, state, noise = _seeded_batch()
    return predicting(policy, {"image": pictures, "agent_pos": state}, noise, threads, runtime)


def our_policy(network: str) -> Policy:
    """With random weights."""
    resnet, unet = IMAGE_NETWORKS[network]
    torch.manual_seed(0)
    encoder = {"name": "image", "backbone": {"name": "resnet", **resnet}, "crop": CROP}
    config = PolicyConfig(encoder=encoder, denoiser={"name": "unet1d", **unet})
    return Policy(config, FEATURES, window(16))


def training_flops(network: str, batch: int) -> float:
    """Multiplications and additions of a training step: the forward pass's products, and twice as
    many backward, towards weights and inputs; of the first layer there are none towards inputs."""
    model = PlainImagePolicy(network)
    pictures, state, actions = _batch(1)
    images = pictures.permute(0, 1, 4, 2, 3).float() / 255
    first = model.resnet.stem[0]
    once = product_flops(first, torch.zeros(FRAMES, 3, CROP, CROP))
    return (3 * product_flops(model, images, state, actions, torch.zeros(1)) - once) * batch


def _seeded_batch() -> tuple[Tensor, Tensor, Tensor]:
    """One observation and a noise, the same for everybody."""
    torch.manual_seed(1)
    return _batch(1)


def loop_weights(network: str) -> tuple[int, int]:
    """Parameters of the denoiser that are read in every step, and those read once a chunk."""
    return weights_of_loop(our_policy(network))


def _batch(batch: int) -> tuple[Tensor, Tensor, Tensor]:
    pictures = torch.randint(256, (batch, FRAMES, SIZE, SIZE, 3), dtype=torch.uint8)
    return pictures, torch.randn(batch, FRAMES, 2), torch.randn(batch, 16, 2)
