"""Camera images of an episode as WebP, each by itself, so that the page jumps to any frame.

A camera's images are shrunk, compressed and thinned out as far as the page's size demands: the
quality levels go from images as they are down to thumbnails twice a second.
"""

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.store.store import EpisodeStore

ASSUMED_FPS = 10.0  # where a dataset does not say how fast it was recorded
READ_BYTES = 32 * 2**20  # stored images that are read at once


@dataclass(frozen=True)
class ImageSpec:
    """side: longest side in pixels; quality: WebP's, 0 to 100; rate: most images a second."""

    side: int
    quality: int
    rate: float

    def stride(self, fps: float | None) -> int:
        """Every how many frames there is an image."""
        return max(1, math.ceil((fps or ASSUMED_FPS) / self.rate - 1e-6))


QUALITY_LEVELS = (
    ImageSpec(640, 75, 60),
    ImageSpec(480, 65, 30),
    ImageSpec(320, 60, 30),
    ImageSpec(320, 50, 15),
    ImageSpec(240, 50, 15),
    ImageSpec(240, 45, 10),
    ImageSpec(160, 45, 10),
    ImageSpec(160, 40, 5),
    ImageSpec(96, 40, 5),
    ImageSpec(96, 30, 2),
)


def camera_shape(kind: str, shape: list[int]) -> tuple[int, int, int] | None:
    """Height, width and channels of a frame that can be shown as an image, else None."""
    if kind not in ("image", "depth") or 0 in shape:
        return None
    if len(shape) == 2:
        return shape[0], shape[1], 1
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        return shape[0], shape[1], shape[2]
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return shape[1], shape[2], shape[0]
    return None


def shape_of(store: EpisodeStore, camera: str) -> tuple[int, int, int]:
    """Height, width and channels of a camera; ValueError for a key that is none."""
    schema = store.schema(camera)
    shape = camera_shape(schema["kind"], schema["shape"])
    if shape is None:
        raise ValueError(f"{camera!r} is no camera: {schema}")
    return shape


def shown_size(shape: tuple[int, int, int], spec: ImageSpec) -> tuple[int, int]:
    """Width and height at which a camera is shown: never larger than it was stored."""
    height, width, _ = shape
    scale = min(1.0, spec.side / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def encoded(frame: np.ndarray, shape: tuple[int, int, int], spec: ImageSpec) -> bytes:
    """One stored frame as a WebP."""
    from PIL import Image

    pixels = _pixels(frame, shape)
    size = shown_size(shape, spec)
    image = Image.fromarray(pixels)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=spec.quality, method=2)
    return buffer.getvalue()


def read_images(store: EpisodeStore, key: str, frames: range, spec: ImageSpec) -> Iterator[bytes]:
    """The images of an episode's frames in turn; raises DataError for an unreadable one."""
    shape = shape_of(store, key)
    numbers = np.arange(frames.start, frames.stop, spec.stride(store.fps))
    size = max(1, READ_BYTES // max(store[key].frame_bytes, 1))
    for at in range(0, len(numbers), size):
        for frame in store[key].take(numbers[at : at + size]):
            yield encoded(frame, shape, spec)


def packed(images: list[bytes]) -> bytes:
    """How many, how long each is (uint32, little-endian), and the images end to end."""
    head = struct.pack(f"<{len(images) + 1}I", len(images), *map(len, images))
    return head + b"".join(images)


def _pixels(frame: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A frame as uint8, [H, W] or [H, W, 3]; what is not uint8 is stretched from dark to light."""
    if frame.ndim == 3 and frame.shape[2] != shape[2]:
        frame = np.moveaxis(frame, 0, 2)
    if frame.ndim == 3:
        frame = frame[..., 0] if shape[2] == 1 else frame[..., :3]
    if frame.dtype != np.uint8:
        frame = _stretched(frame)
    return np.ascontiguousarray(frame)


def _stretched(frame: np.ndarray) -> np.ndarray:
    values = np.nan_to_num(frame.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    grey: np.ndarray = ((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    return grey


def settings(store: EpisodeStore, key: str, spec: ImageSpec) -> dict[str, Any]:
    """What the page says of a camera's images."""
    shape = shape_of(store, key)
    return {
        "key": key,
        "stored": [shape[1], shape[0]],
        "shown": list(shown_size(shape, spec)),
        "stride": spec.stride(store.fps),
        "quality": spec.quality,
    }
