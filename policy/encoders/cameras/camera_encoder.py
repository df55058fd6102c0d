"""The network of one camera: its pictures become a vector each."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dipole.policy.core.components import BACKBONES, POOLINGS, build
from dipole.policy.encoders.cameras.backbones.backbone import BackboneOutput
from dipole.policy.encoders.cameras.pixels import normalised


class CameraEncoder(nn.Module):
    """Pictures [N, 3, h, w], uint8 or in [0, 1] -> vectors [N, dim].

    Here, once, pictures are normalised by the statistics that the backbone was made for.

    backbone, pooling: Which, by name, with their options.
    dim: Numbers of a picture's vector.
    frozen: The backbone's weights stay as they are, and it is in eval mode always.
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        backbone: Mapping[str, Any],
        pooling: Mapping[str, Any],
        dim: int,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = build(BACKBONES, backbone).requires_grad_(not frozen)
        self.frozen = frozen
        self.pooling = build(POOLINGS, pooling, channels=self.backbone.channels)
        self.project = nn.Linear(self.pooling.dim, dim)
        mean, std = (torch.tensor(value) for value in (self.backbone.mean, self.backbone.std))
        self.register_buffer("scale", (1 / std)[:, None, None])
        self.register_buffer("offset", (-mean / std)[:, None, None])

    def features(self, images: Tensor) -> BackboneOutput:
        """The backbone's output for pictures [N, 3, h, w], uint8 or in [0, 1]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            output: BackboneOutput = self.backbone(normalised(images, self.scale, self.offset))
        return output

    def embed(self, output: BackboneOutput) -> Tensor:
        """A vector for each picture, [N, dim], from what the backbone computed of it."""
        pooled: Tensor = self.pooling(output)
        vectors: Tensor = self.project(pooled.to(self.project.weight.dtype))
        return vectors

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(self.features(images))

    def train(self, mode: bool = True) -> "CameraEncoder":
        super().train(mode)
        self.backbone.train(mode and not self.frozen)
        return self

    @property
    def channels(self) -> int:
        """C of the backbone's features."""
        return int(self.backbone.channels)
