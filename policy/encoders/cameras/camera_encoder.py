"""The network of one camera: its pictures become a vector each."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
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
        if getattr(self.pooling, "needs_pooled", False) and not self.backbone.has_pooled:
            raise ConfigError(
                f"the backbone {backbone.get('name')!r} has no pooled output of its own: choose "
                "the pooling mean or spatial_softmax"
            )
        self.project = nn.Linear(self.pooling.dim, dim)
        mean, std = (torch.tensor(value) for value in (self.backbone.mean, self.backbone.std))
        self.register_buffer("scale", (1 / std)[:, None, None])
        self.register_buffer("offset", (-mean / std)[:, None, None])

    def check_size(self, size: tuple[int, int], camera: str) -> None:
        """Raise ConfigError, naming the camera, for pictures of a height and width of which the
        backbone leaves nothing; warn where the pooling cannot tell pictures apart by what is left.
        """
        self.backbone.check_size(size, camera)
        cells, least = self.backbone.map_size(size), getattr(self.pooling, "least_side", 1)
        if cells is None or min(cells) >= least:
            return
        seen, left = (f"{height} x {width}" for height, width in (size, cells))
        said = f"camera {camera!r}: of pictures of {seen} the backbone leaves a map of {left} cells"
        more = "let it see more (policy.encoder.crop, resize)"
        if min(cells) < 1:
            raise ConfigError(f"{said}: {more}")
        warnings.warn(
            f"{said}, and {type(self.pooling).__name__} needs {least} x {least} to tell pictures "
            f"apart: {more}, or choose policy.encoder.pooling.name=mean",
            stacklevel=2,
        )

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
