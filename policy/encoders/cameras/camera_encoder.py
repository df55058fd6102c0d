"""An eye: the network that turns one camera's pictures into a vector each."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dipole.policy.core.components import BACKBONES, READOUTS, build
from dipole.policy.encoders.cameras.backbone import Seen
from dipole.policy.encoders.cameras.pretrained import Pretrained


class Eye(nn.Module):
    """Pictures [N, 3, h, w] in [0, 1] -> vectors [N, dim]. Here, once, they are normalised by the
    statistics that the backbone was made for.

    backbone, readout: which, by name, with their options. frozen: the backbone's weights stay as
    they are, and it is in eval mode always.
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        backbone: Mapping[str, Any],
        readout: Mapping[str, Any],
        dim: int,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = build(BACKBONES, backbone).requires_grad_(not frozen)
        self.frozen = frozen
        self.readout = build(READOUTS, readout, channels=self.backbone.channels)
        self.project = nn.Linear(self.readout.dim, dim)
        mean, std = (torch.tensor(value) for value in (self.backbone.mean, self.backbone.std))
        self.register_buffer("scale", (1 / std)[:, None, None])
        self.register_buffer("offset", (-mean / std)[:, None, None])

    def see(self, images: Tensor) -> Seen:
        """The backbone's features of pictures [N, 3, h, w] in [0, 1]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            images = images.to(self.scale.dtype)
            seen: Seen = self.backbone(torch.addcmul(self.offset, images, self.scale))
        return seen

    def check_size(self, size: tuple[int, int], camera: str) -> None:
        """Refuse pictures that the backbone cannot see."""
        if isinstance(self.backbone, Pretrained):
            self.backbone.check_size(size, camera)

    def load_weights(self) -> None:
        """Take the backbone's weights, where its configuration names some."""
        if isinstance(self.backbone, Pretrained):
            self.backbone.load_weights()

    def train(self, mode: bool = True) -> "Eye":
        super().train(mode)
        self.backbone.train(mode and not self.frozen)
        return self

    def say(self, seen: Seen) -> Tensor:
        """A vector for each picture [N, dim] of what was seen in it."""
        read: Tensor = self.readout(seen)
        vectors: Tensor = self.project(read.to(self.project.weight.dtype))
        return vectors

    def forward(self, images: Tensor) -> Tensor:
        return self.say(self.see(images))

    @property
    def channels(self) -> int:
        """C of what it sees."""
        return int(self.backbone.channels)
