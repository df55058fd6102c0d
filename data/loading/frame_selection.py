"""From stored arrays, or what a simulator observes, to a feature's numbers: columns and transform.

The same for both, so that a transform is written once.
"""

from collections.abc import Callable

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.loading.features import Feature


def select_frames(
    feature: Feature,
    frames: np.ndarray,
    transform: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Frames [N, ...] of a feature's source in the robot's numbers, [N, *stored_shape].

    transform: the feature's, looked up. Raises DataError for a picture's transform that returns
    none. Shapes are not checked.
    """
    if frames.ndim == 1:  # an array with one number per frame
        frames = frames[:, None]
    if feature.columns is not None:
        frames = frames[..., list(feature.columns)]
    if transform is None:
        return frames
    made = transform(frames)
    return _as_picture(feature, made) if feature.kind == "image" else made


def _as_picture(feature: Feature, made: np.ndarray) -> np.ndarray:
    if made.dtype == np.uint8:
        return np.asarray(made)
    inside = made.dtype.kind == "f" and (made >= 0).all() and (made <= 1).all()
    if not inside:  # NaN included
        said = f"{made.dtype} from {made.min():g} to {made.max():g}"
        raise DataError(
            f"transform {feature.transform!r} returns {said}. A picture's transform returns "
            "uint8, or floats from 0 to 1"
        )
    rounded: np.ndarray = np.rint(made * 255).astype(np.uint8)
    return rounded
