"""What a policy sees, beside the scene, for videos: each camera's picture as its network is given
it, cropped and resized, with keypoints.

    scene | front, 84 x 84 | wrist, 84 x 84
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from dipole.data.core.errors import ConfigError
from dipole.envs.media.marks import draw_keypoints, label, with_heat
from dipole.envs.media.saliency import PANEL, scaled
from dipole.envs.media.video import PackedFrame, pack_frame, scale_to_width
from dipole.policy.encoders.cameras.saliency import Saliency
from dipole.policy.policy import Policy

GAP = 2  # pixels between scene and pictures
SMALLEST_MARKS = 0.6  # of their size in a picture of PANEL pixels


class PolicyViews:
    """Draws what a policy sees.

    policy: A checkpoint's, or a runtime's that was made of one.
    Raises ConfigError for an export alone, and for a policy without cameras.
    """

    def __init__(self, policy: Any) -> None:
        policy = getattr(policy, "fallback", None) or policy
        if not isinstance(policy, Policy):
            raise ConfigError(
                "video_views=true shows what a policy's network is given, which an export cannot "
                "say: evaluate the checkpoint that it was made of, or leave video_views out"
            )
        self.policy = policy
        self.cameras = list(policy.encoder.picture_dims)
        if not self.cameras:
            raise ConfigError(
                "video_views=true shows what a policy's cameras see, and this policy observes "
                f"{', '.join(policy.features.observation) or 'nothing'}, no picture: leave it out"
            )

    @property
    def panels(self) -> int:
        """Pictures side by side: the scene and each camera's."""
        return 1 + len(self.cameras)

    def beside(
        self, scenes: Sequence[PackedFrame], seen: Sequence[Mapping[str, Any]], width: int
    ) -> list[PackedFrame]:
        """Frames of a scene, each with what the policy saw then on its right.

        scenes: Of any size. seen: As many, {name: [*shape]}, see `Interface.observe`.
        width: Of the scene and of each picture, pixels.
        """
        pairs = zip(scenes, seen, strict=True)
        return [pack_frame(self._beside(scene.unpack(), each, width)) for scene, each in pairs]

    def _beside(self, scene: np.ndarray, seen: Mapping[str, Any], width: int) -> np.ndarray:
        scene = scale_to_width(scene, width)
        frames = self.policy.window.n_obs_steps
        observed = {name: np.stack([np.asarray(value)] * frames) for name, value in seen.items()}
        looks = self.policy.saliency(observed)
        height = len(scene)
        whole = np.zeros((height, self.panels * width, 3), np.uint8)
        whole[:, :width] = scene
        for number, camera in enumerate(self.cameras, start=1):
            if camera in looks:  # it may be missing
                whole[:, number * width + GAP : (number + 1) * width] = _panel(
                    looks[camera], camera, width - GAP, height
                )
        return whole


def _panel(found: Saliency, camera: str, width: int, height: int) -> np.ndarray:
    """[height, width, 3]"""
    shown, scale = scaled(found.picture, width, height)
    if found.keypoints is None or found.sharpness is None:
        shown = with_heat(shown, found.strength)
    else:
        size = max(SMALLEST_MARKS, width / PANEL)
        draw_keypoints(shown, found.keypoints * scale, found.sharpness, size)
    panel = Image.new("RGB", (width, height))
    panel.paste(shown, ((width - shown.width) // 2, (height - shown.height) // 2))
    rows, columns = found.picture.shape[:2]
    label(panel, f"{camera}, {rows} x {columns}")
    return np.asarray(panel)
