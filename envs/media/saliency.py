"""What an image policy looks at, drawn into its pictures: keypoints, or strong features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dipole.envs.media.picture import Moment
from dipole.envs.media.video import RUNNING, caption_tile, tiled
from dipole.policy.encoders.cameras.saliency import Saliency

PANEL = 320  # pixels, both ways
RADIUS = 4.0  # of the sharpest keypoint, pixels
LEGEND = "keypoints, the larger the sharper; or, in yellow, where features are strong"


def looks_picture(moments: Sequence[Moment], policy: Any) -> np.ndarray | None:
    """A grid of the cameras' pictures [height, width, 3] uint8, one for each moment and camera.

    None for policies that cannot say what they look at: those without cameras, and exports.
    """
    if not moments or not hasattr(policy, "saliency"):
        return None
    panels = []
    for moment in moments:
        for camera, found in policy.saliency(moment.observation).items():
            caption = f"{camera}   seed {moment.seed}   step {moment.step}"
            panels.append(caption_tile(_panel(found), caption, RUNNING))
    if not panels:
        return None
    return caption_tile(tiled(panels, columns=min(4, len(panels))), LEGEND, RUNNING)


def _panel(found: Saliency) -> np.ndarray:
    height, width, _ = found.picture.shape
    scale = PANEL / max(height, width)
    size = (round(width * scale), round(height * scale))
    shown = Image.fromarray(found.picture).resize(size, Image.Resampling.BICUBIC)
    panel = Image.new("RGB", (PANEL, PANEL))
    if found.keypoints is None or found.sharpness is None:
        _tint(shown, found.strength)
    else:
        _draw_keypoints(shown, found.keypoints * scale, found.sharpness)
    panel.paste(shown)
    return np.asarray(panel)


def _tint(shown: Image.Image, strength: np.ndarray) -> None:
    heat = Image.fromarray((127 * strength).astype(np.uint8))
    shown.paste((255, 220, 0), mask=heat.resize(shown.size, Image.Resampling.BICUBIC))


def _draw_keypoints(shown: Image.Image, keypoints: np.ndarray, sharpness: np.ndarray) -> None:
    draw = ImageDraw.Draw(shown)
    for number, (x, y) in enumerate(keypoints.tolist()):
        radius = 1.5 + RADIUS * float(sharpness[number])
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill=_colour(number / len(keypoints)), outline="black")


def _colour(share: float) -> tuple[int, int, int]:
    """Around the wheel of hues, so that a keypoint is found again in the next picture."""
    hue = Image.new("HSV", (1, 1), (int(255 * share), 220, 255)).convert("RGB")
    red, green, blue = np.asarray(hue)[0, 0].tolist()
    return red, green, blue
