"""From a backbone's features to one vector a picture."""

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import POOLINGS
from dipole.policy.encoders.cameras.backbones.backbone import BackboneOutput


@POOLINGS.add("spatial_softmax")
class SpatialSoftmax(nn.Module):
    """Where in the picture each of K learned features is (Finn et al., 2016): [N, 2K].

    keypoints: [N, K, 2], x to the right and y down, -1 to 1 between the centres of the outermost
    cells. Works for any resolution; positions are finer than the features' cells.

    Of a map one cell wide or high a position says nothing: it is the same for every picture.
    """

    least_side = 2  # cells of the map, each way

    def __init__(self, channels: int, n_keypoints: int = 32) -> None:
        super().__init__()
        if n_keypoints < 1:
            raise ConfigError(f"n_keypoints is {n_keypoints}: at least 1")
        self.logits = nn.Conv2d(channels, n_keypoints, kernel_size=1)
        self.dim = 2 * n_keypoints

    def forward(self, output: BackboneOutput) -> Tensor:
        return self.keypoints(output).flatten(1)

    def keypoints(self, output: BackboneOutput) -> Tensor:
        """[N, K, 2], see the class."""
        weights = self.attention(output)  # [N, K, h', w']
        height, width = weights.shape[2:]
        x = (weights.sum(2) * _grid(width, weights)).sum(2)  # [N, K]
        y = (weights.sum(3) * _grid(height, weights)).sum(2)
        return torch.stack([x, y], dim=2)

    def attention(self, output: BackboneOutput) -> Tensor:
        """Of each keypoint over the picture: [N, K, h', w'], each summing to 1. Single precision:
        a position is a small difference of large sums."""
        logits: Tensor = self.logits(output.features).float()
        return logits.flatten(2).softmax(2).view_as(logits)


def _grid(size: int, like: Tensor) -> Tensor:
    return torch.linspace(-1, 1, size, device=like.device, dtype=like.dtype)


@POOLINGS.add("mean")
class Mean(nn.Module):
    """The mean over the picture: [N, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dim = channels

    def forward(self, output: BackboneOutput) -> Tensor:
        return output.features.mean((2, 3))


@POOLINGS.add("pooled")
class Pooled(nn.Module):
    """The backbone's own class token or pooled output, which it has to have: [N, C]."""

    needs_pooled = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dim = channels

    def forward(self, output: BackboneOutput) -> Tensor:
        assert output.pooled is not None
        return output.pooled
