"""Pictures and depth in another size, the same for a dataset as for a camera at run time."""

import numpy as np
from PIL import Image

from dipole.data.core.errors import ConfigError
from dipole.data.transforms.nearest_line import nearest_line

Size = tuple[int, int]  # height, width


def resized_pictures(frames: np.ndarray, size: Size) -> np.ndarray:
    """uint8 [..., H, W, C] -> uint8 [..., height, width, C]: bilinear, and where it becomes smaller
    an average over the pixels that each new one covers, as `policy.encoder.resize` does.

    size: height, width, pixels. Raises ConfigError for other frames and sizes.
    """
    _check(frames, size, frames.dtype == np.uint8 and frames.ndim >= 3, "uint8 [..., H, W, C]")
    height, width = size
    *leading, rows, columns, channels = frames.shape
    if (rows, columns) == size:
        return frames
    made = np.empty((int(np.prod(leading)), height, width, channels), np.uint8)
    for new, old in zip(made, frames.reshape(-1, rows, columns, channels), strict=True):
        if channels == 3:
            new[:] = _resized(old, size)
        else:
            for channel in range(channels):
                new[..., channel] = _resized(old[..., channel], size)
    return made.reshape(*leading, height, width, channels)


def resized_depth(frames: np.ndarray, size: Size) -> np.ndarray:
    """[N, H, W, ...] -> [N, height, width, ...] of the nearest pixels: a mean of two distances is
    one at which nothing is. `policy.encoder.resize` takes the same ones.

    size: height, width, pixels. Raises ConfigError for other frames and sizes.
    """
    _check(frames, size, frames.ndim >= 3, "[N, H, W] or [N, H, W, 1]")
    rows, columns = (
        nearest_line(np.arange(want, dtype=np.int64), have, want)
        for have, want in zip(frames.shape[1:3], size, strict=True)
    )
    return frames[:, rows[:, None], columns]


def _resized(picture: np.ndarray, size: Size) -> np.ndarray:
    height, width = size
    contiguous = np.ascontiguousarray(picture)
    resized = Image.fromarray(contiguous).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _check(frames: np.ndarray, size: Size, fits: bool, wanted: str) -> None:
    if not fits:
        raise ConfigError(f"resize: frames are {wanted}, not {frames.dtype} {list(frames.shape)}")
    if min(size) < 1:
        raise ConfigError(f"resize: {size[0]}x{size[1]}: height and width are at least 1 pixel")
