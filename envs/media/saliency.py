"""What an image policy looks at: each camera's picture with its keypoints, and a heat map."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from dipole.envs.media.marks import STRENGTH, draw_keypoints, legend, with_heat
from dipole.envs.media.video import RUNNING, caption_tile, tiled
from dipole.policy.encoders.cameras.saliency import Saliency
from dipole.policy.inspection import Heat, heat_maps
from dipole.policy.policy import Policy

PANEL = 320  # pixels, both ways
GAP = 4


class Seen(Protocol):
    """What a policy is given at one moment, of an episode or of a recording.

    observation: {name: [To, *shape]}, in the robot's numbers.
    where: The moment in words, for captions.
    """

    @property
    def observation(self) -> Mapping[str, np.ndarray]: ...
    @property
    def where(self) -> str: ...


def looks_picture(moments: Sequence[Seen], policy: Any) -> np.ndarray | None:
    """A grid of the cameras' pictures [height, width, 3] uint8, one for each moment and camera:
    on the left what the network is given, with its keypoints, on the right a heat map.

    None for policies that cannot say what they look at: those without cameras, and exports, unless
    the policy that they were made of is at hand.
    """
    policy = getattr(policy, "fallback", None) or policy
    if not moments or not hasattr(policy, "saliency"):
        return None
    tiles, kinds, keypoints = [], [], False
    for moment in moments:
        looks = policy.saliency(moment.observation)
        heats = heat_maps(policy, moment.observation) if isinstance(policy, Policy) else {}
        for camera, found in looks.items():
            heat = heats.get(camera) or Heat(found.strength, 1.0, STRENGTH)
            tiles.append(caption_tile(_pair(found, heat), _caption(moment, camera, heat), RUNNING))
            kinds.append(heat.kind)
            keypoints |= found.keypoints is not None
    if not tiles:
        return None
    grid = tiled(tiles, columns=min(2, len(tiles)))
    return np.concatenate([legend(grid.shape[1], list(dict.fromkeys(kinds)), keypoints), grid])


def _caption(moment: Seen, camera: str, heat: Heat) -> str:
    caption = f"{camera}   {moment.where}"
    share = "" if heat.share > 0.9995 else f"   {heat.share:.0%} of the {heat.kind}"
    return caption + share


def _pair(found: Saliency, heat: Heat) -> np.ndarray:
    """[PANEL, 2 PANEL + GAP, 3]"""
    shown, scale = scaled(found.picture, PANEL, PANEL)
    hot = with_heat(shown, heat.cells)
    if found.keypoints is not None and found.sharpness is not None:
        draw_keypoints(shown, found.keypoints * scale, found.sharpness)
    pair = Image.new("RGB", (2 * PANEL + GAP, PANEL), RUNNING)
    for number, panel in enumerate((shown, hot)):
        pair.paste(panel, (number * (PANEL + GAP) + (PANEL - panel.width) // 2, 0))
    return np.asarray(pair)


def scaled(picture: np.ndarray, width: int, height: int) -> tuple[Image.Image, float]:
    """picture: [h, w, 3] uint8 -> as large as fits, its pixels still to be seen; and how many times
    as large it is."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    return Image.fromarray(picture).resize(size, how), scale
