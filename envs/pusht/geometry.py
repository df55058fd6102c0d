"""The shape of Push-T: outline, keypoints and goal of the T, without the simulator.

Training reads keypoints from stored states through `pusht_keypoints`, with no simulator installed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.data.loading.features import TRANSFORMS
from dipole.data.sources.combine.mirrored import MIRRORS, Mirror, Reflection

Floats = NDArray[np.float64]
Pose = Sequence[float] | Floats  # x, y of the block's origin in pixels (y down), angle in radians

WORLD_SIZE = 512.0
AGENT_RADIUS = 15.0
GOAL_POSE = (256.0, 256.0, np.pi / 4)

# Outline of the T in its own frame: x along the bar, y down the stem, the origin mid-bar.
OUTLINE: Floats = np.array(
    [[-60, 0], [60, 0], [60, 30], [15, 30], [15, 120], [-15, 120], [-15, 30], [-60, 30]],
    dtype=np.float64,
)

# The paper's nine keypoints in the same frame. They were drawn at random when its data was made:
# recovered from that data, where 74 % of the frames agree with them to 3e-5 pixels.
KEYPOINTS: Floats = np.array(
    [
        [9.269787, 90.040974],
        [-60.983472, -1.186730],
        [60.912756, -1.393364],
        [-0.270503, 25.543625],
        [-14.064927, 122.815854],
        [39.002738, 32.857404],
        [-39.966415, 32.729655],
        [-16.824344, 62.863179],
        [23.541461, -1.700288],
    ]
)


def to_world(pose: Pose, points: Floats) -> Floats:
    """Points [..., 2] of the block's frame, in the world, for a block at one pose."""
    cosine, sine = np.cos(pose[2]), np.sin(pose[2])
    x, y = points[..., 0], points[..., 1]
    return np.stack([cosine * x - sine * y + pose[0], sine * x + cosine * y + pose[1]], axis=-1)


def to_block(pose: Pose, points: Floats) -> Floats:
    """Points [..., 2] of the world, in the frame of a block at one pose."""
    cosine, sine = np.cos(pose[2]), np.sin(pose[2])
    x, y = points[..., 0] - pose[0], points[..., 1] - pose[1]
    return np.stack([cosine * x + sine * y, cosine * y - sine * x], axis=-1)


@TRANSFORMS.add("pusht_keypoints")
def pusht_keypoints(state: NDArray[Any]) -> NDArray[Any]:
    """Keypoints [N, 9, 2] in pixels of states [N, 5] (agent x, y, block x, y, angle)."""
    state = np.asarray(state)
    angle = state[:, 4, None].astype(np.float64)
    cosine, sine = np.cos(angle), np.sin(angle)  # [N, 1]
    x, y = KEYPOINTS[:, 0], KEYPOINTS[:, 1]
    keypoints = np.empty((len(state), len(KEYPOINTS), 2), dtype=np.float32)
    keypoints[:, :, 0] = cosine * x - sine * y + state[:, 2, None]
    keypoints[:, :, 1] = sine * x + cosine * y + state[:, 3, None]
    return keypoints


def mirrored_points(points: NDArray[Any]) -> NDArray[Any]:
    """Points [..., 2] reflected in the goal's axis, the diagonal on which x + y = 512.

    Push-T looks the same from both sides of it: the T along its stem, the goal, the four walls (to
    a pixel). Whoever pushes the mirrored block with mirrored actions sees the mirrored outcome.
    """
    return WORLD_SIZE - points[..., ::-1]


def mirrored_state(state: NDArray[Any]) -> NDArray[Any]:
    """States [..., 5] (agent x, y, block x, y, angle) in the same mirror, angles in [0, 2 pi)."""
    angle = np.mod(np.pi / 2 - state[..., 4:].astype(np.float64), 2 * np.pi)
    halves = [mirrored_points(state[..., :2]), mirrored_points(state[..., 2:4])]
    return np.concatenate([*halves, angle.astype(state.dtype)], axis=-1)


def mirrored_image(image: NDArray[Any]) -> NDArray[Any]:
    """Square images [..., S, S, C] in the same mirror."""
    return np.swapaxes(image, -3, -2)[..., ::-1, ::-1, :]


def _as_it_is(frames: NDArray[Any]) -> NDArray[Any]:
    return frames


PICTURE = (96, 96, 3)

MIRRORS.add("pusht")(
    Mirror(
        {
            "state": Reflection(mirrored_state, (5,)),
            "agent_pos": Reflection(mirrored_points, (2,)),
            "action": Reflection(mirrored_points, (2,)),
            "img": Reflection(mirrored_image, PICTURE),
            "image": Reflection(mirrored_image, PICTURE),
            "n_contacts": Reflection(_as_it_is),
        },
        environment="pusht",
        swaps=(("left", "bottom"), ("right", "top")),  # the diagonal from lower left, y down
    )
)
