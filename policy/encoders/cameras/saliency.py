"""What a camera's encoder looks at in a picture, for people to see."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dipole.policy.encoders.cameras.camera_encoder import CameraEncoder
from dipole.policy.encoders.cameras.pooling import SpatialSoftmax


@dataclass(frozen=True)
class Saliency:
    """What matters in one picture.

    picture: What the network is given, [h, w, 3] uint8.
    keypoints: [K, 2], x and y in its pixels; None where the pooling has none.
    sharpness: [K], 0 for a keypoint that is spread evenly to 1 for one within a single cell.
    strength: [h', w'], length of the features, 0 to 1.
    """

    picture: np.ndarray
    keypoints: np.ndarray | None
    sharpness: np.ndarray | None
    strength: np.ndarray


@torch.inference_mode()
def saliency(encoder: CameraEncoder, images: Tensor) -> Saliency:
    """Of one picture, [1, 3, h, w] in [0, 1], on the encoder's device."""
    output = encoder.features(images)
    picture = (images[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    strength = output.features[0].float().norm(dim=0)
    strength = (strength - strength.min()) / (strength.max() - strength.min()).clamp(min=1e-6)
    if not isinstance(encoder.pooling, SpatialSoftmax):
        return Saliency(picture, None, None, strength.cpu().numpy())
    height, width = picture.shape[:2]
    rows, columns = output.features.shape[2:]
    # -1 and 1 are the centres of the outermost cells.
    found = encoder.pooling.keypoints(output)[0].cpu()
    cells = (found + 1) / 2 * torch.tensor([columns - 1, rows - 1])
    keypoints = (cells + 0.5) * torch.tensor([width / columns, height / rows])
    sharpness = encoder.pooling.attention(output)[0].flatten(1).max(1).values
    return Saliency(picture, keypoints.numpy(), sharpness.cpu().numpy(), strength.cpu().numpy())
