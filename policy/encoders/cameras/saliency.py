"""What an image encoder looks at in the newest picture of each camera, for people to see."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dipole.policy.encoders.cameras.image_encoder import ImageEncoder
from dipole.policy.encoders.cameras.pooling import SpatialSoftmax


@dataclass(frozen=True)
class Look:
    """picture: what the network sees, [h, w, 3] uint8. keypoints: [K, 2], x and y in its pixels, or
    None where the readout has none; sharpness: [K], 0 for one that is everywhere to 1 for one that
    is in a single cell. strength: [h', w'], length of the features, 0 to 1."""

    picture: np.ndarray
    keypoints: np.ndarray | None
    sharpness: np.ndarray | None
    strength: np.ndarray


@torch.inference_mode()
def looks(encoder: ImageEncoder, observation: Mapping[str, Tensor]) -> dict[str, Look]:
    """By camera. observation: {name: [1, To, H, W, 3]}, uint8, on the encoder's device."""
    present = [name for name in encoder.cameras if name in observation]
    return {name: _look(encoder, name, observation[name][:, -1:]) for name in present}


def _look(encoder: ImageEncoder, camera: str, pictures: Tensor) -> Look:
    images = encoder.view(camera)(pictures)  # [1, 3, h, w]
    eye = encoder.eye(camera)
    seen = eye.see(images)
    picture = (images[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    strength = seen.features[0].float().norm(dim=0)
    strength = (strength - strength.min()) / (strength.max() - strength.min()).clamp(min=1e-6)
    if not isinstance(eye.readout, SpatialSoftmax):
        return Look(picture, None, None, strength.cpu().numpy())
    height, width = picture.shape[:2]
    rows, columns = seen.features.shape[2:]
    # -1 and 1 are the centres of the outermost cells.
    cells = (eye.readout.keypoints(seen)[0].cpu() + 1) / 2 * torch.tensor([columns - 1, rows - 1])
    keypoints = (cells + 0.5) * torch.tensor([width / columns, height / rows])
    sharpness = eye.readout.attention(seen)[0].flatten(1).max(1).values
    return Look(picture, keypoints.numpy(), sharpness.cpu().numpy(), strength.cpu().numpy())
