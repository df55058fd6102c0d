"""Targets that are places in a camera's picture, which training's random cuts move."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dipole.data import Feature
from dipole.data.core.errors import ConfigError


@dataclass(frozen=True)
class PicturePlane:
    """Which camera's picture a target's numbers are places in: x to the right and y down, in turn.

    size: The picture's width and height in the target's units.
    """

    camera: str
    size: tuple[float, ...]

    def seen(self, values: Tensor, offsets: Mapping[str, Tensor]) -> Tensor:
        """values: [B, To, *shape] -> where the network sees them: less by how far the pictures were
        cut from the middle. offsets: See `Encoder.picture_offsets`."""
        offset = offsets.get(self.camera)
        if offset is None:
            return values
        width, height = self.size  # as numbers: a tensor of them would be copied from the host
        moved = torch.stack([offset[:, 0] * width, offset[:, 1] * height], dim=1)  # [B, 2]
        places = values.flatten(2)  # [B, To, n]
        moved = moved.repeat(1, places.shape[2] // 2)[:, None]
        return (places - moved).view_as(values)

    def check(self, target: str, feature: Feature, cameras: Sequence[str]) -> None:
        """Raise ConfigError, naming the target, for one that is no places or is predicted from
        other cameras' pictures, which are cut elsewhere."""
        moves, shape = f"target {target!r} moves with camera {self.camera!r}", feature.shape
        if list(cameras) != [self.camera]:
            raise ConfigError(
                f"{moves} and is predicted from {', '.join(cameras)}, which is cut elsewhere: set "
                f"its cameras to [{self.camera}]"
            )
        if shape[-1] % 2 or (len(shape) > 1 and shape[-1] != 2):
            raise ConfigError(
                f"{moves} and has shape {list(shape)}: places are needed, x and y in turn, "
                "[..., 2] or [2 n]"
            )
        if len(self.size) != 2 or not all(0 < side < math.inf for side in self.size):
            raise ConfigError(
                f"target {target!r}: picture_size is {list(self.size)}: the picture's width and "
                "height in the target's units"
            )
