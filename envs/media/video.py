"""What happened, to look at: a grid of episodes as an mp4, a picture as a png.

Files appear whole or not at all.
"""

import functools
import io
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.policy.core.files import atomic_write

TILE_WIDTH, SMALLEST_TILE = 256, 96
GRID_WIDTH = 1024  # of a video, about, where tiles are smaller for it
SMOOTH_FPS = 20
NARROW = 200  # tiles below it have a small caption
CAPTION_HEIGHT = 24
BORDER = 4
VIDEOS = ("first", "failures")
RUNNING, SUCCEEDED, FAILED = (215, 215, 215), (34, 160, 70), (200, 60, 50)


def check_video(choice: str) -> None:
    """Raises ConfigError for anything but a choice of episodes that are filmed."""
    if choice not in VIDEOS:
        raise ConfigError(f"video is {choice!r}{nearest(choice, VIDEOS) or ';'} first or failures")


def filmed_episodes(asked: int | None, tasks: int, episodes: int) -> int:
    """How many episodes are filmed, from the first, of which each of several tasks has its turn."""
    each = (8 if tasks < 2 else 1) if asked is None else asked
    return min(episodes, each * max(1, tasks))


@dataclass(frozen=True)
class PackedFrame:
    """A frame, compressed without loss: a few episodes of them would fill hundreds of megabytes."""

    shape: tuple[int, ...]
    data: bytes

    def unpack(self) -> np.ndarray:
        """[height, width, 3] uint8."""
        return np.frombuffer(zlib.decompress(self.data), np.uint8).reshape(self.shape)


def pack_frame(frame: Any) -> PackedFrame:
    """frame: [height, width, 3] uint8, as from `render()`. Raises ValueError for anything else."""
    pixels = np.asarray(frame)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise ValueError(
            f"render() returned {type(frame).__name__} {pixels.shape} {pixels.dtype}, not "
            "[H, W, 3] uint8: make the environment with render_mode='rgb_array'"
        )
    return PackedFrame(pixels.shape, zlib.compress(np.ascontiguousarray(pixels).tobytes(), 1))


def film_frame(frame: Any, width: int = TILE_WIDTH) -> PackedFrame:
    """As `pack_frame`, no wider than a video shows it."""
    packed = np.asarray(frame)
    if packed.dtype == np.uint8 and packed.ndim == 3 and packed.shape[1] > width:
        return pack_frame(scale_to_width(packed, width))
    return pack_frame(frame)


def film_stride(fps: float) -> int:
    """Steps for each frame of a video: more than 40 frames a second show nothing more."""
    return max(1, int(fps / SMOOTH_FPS))


def tile_width(tiles: int) -> int:
    """Of so many tiles in one video: smaller ones where they are many."""
    columns = math.ceil(math.sqrt(max(1, tiles)))
    return max(SMALLEST_TILE, min(TILE_WIDTH, GRID_WIDTH // columns))


@dataclass
class Recording:
    """One filmed episode: a frame of the start, one after each step or each `stride` steps, and one
    of the end; the reward of each step.

    success: None where the environment knows none. task: None where it is the only one.
    width: of a tile's scene. panels: pictures side by side in a frame, the scene among them.
    """

    seed: int
    frames: list[PackedFrame] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    success: bool | None = False
    done: bool = False
    task: str | None = None
    width: int = TILE_WIDTH
    stride: int = 1
    panels: int = 1

    def caption(self, step: int) -> str:
        """Task, seed and, `step` steps into the episode, the best reward so far."""
        if self.task and self.width < NARROW:
            return self.task
        task = f"{self.task}   " if self.task else ""
        best = f"   best {max(self.rewards[:step]):.2f}" if self.rewards[:step] else ""
        return f"{task}seed {self.seed}{best}"

    def tile(self, number: int) -> np.ndarray:
        """A frame, bordered and captioned; past the end, the last one."""
        last = len(self.frames) - 1
        running = number < last or self.success is None
        colour = RUNNING if running else (SUCCEEDED if self.success else FAILED)
        frame = self.frames[min(number, last)].unpack()
        caption = self.caption(number * self.stride)
        return caption_tile(scale_to_width(frame, self.panels * self.width), caption, colour)


def video_grid(recordings: Sequence[Recording]) -> Iterator[np.ndarray]:
    """The frames of all episodes side by side, until the longest ends: [height, width, 3] uint8."""
    grid = Grid()
    for step in range(max(len(recording.frames) for recording in recordings)):
        yield grid.frame(recordings, step)


class Grid:
    """Draws the frames of a video; a tile that stays as it is is drawn once."""

    def __init__(self) -> None:
        self.tiles: list[np.ndarray] = []
        self._order: list[int] = []
        self._columns: int | None = None

    def frame(self, recordings: Sequence[Recording], step: int) -> np.ndarray:
        """All episodes side by side after `step` steps, asked for in order: [height, width, 3].

        Those of one task are beside each other, the tasks in the order of their names.
        """
        if step == 0:
            self._order, self._columns = arranged(recordings)
            self.tiles = [recordings[i].tile(0) for i in self._order]
        for place, i in enumerate(self._order):
            if 0 < step < len(recordings[i].frames):
                self.tiles[place] = recordings[i].tile(step)
        return tiled(self.tiles, self._columns)


def arranged(recordings: Sequence[Recording]) -> tuple[list[int], int | None]:
    """Which recording each place of a grid shows, and how many columns it has; None for as many as
    rows. Of several tasks, each filmed equally often, no row has a part of one. Wide tiles make
    fewer columns."""
    counts = Counter(recording.task or "" for recording in recordings)
    panels = max((recording.panels for recording in recordings), default=1)
    if len(counts) < 2:
        few = max(1, round(math.sqrt(len(recordings) / panels)))
        return list(range(len(recordings))), few if panels > 1 else None
    order = sorted(range(len(recordings)), key=lambda i: (recordings[i].task or "", i))
    each = max(counts.values())
    even = min(counts.values()) == each
    columns = each * math.ceil(math.sqrt(len(recordings)) / each) if even else None
    return order, columns


def tiled(tiles: Sequence[np.ndarray], columns: int | None = None) -> np.ndarray:
    """Tiles [h, w, 3] of one size in a grid about as wide as high, empty places white."""
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    height, width, _ = tiles[0].shape
    grid = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * height, i % columns * width
        grid[top : top + height, left : left + width] = tile
    return grid


def scale_to_width(frame: np.ndarray, width: int) -> np.ndarray:
    """frame [h, w, 3] uint8, scaled so that it is `width` wide."""
    if frame.shape[1] == width:
        return frame
    height = max(1, round(frame.shape[0] * width / frame.shape[1]))
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))


def caption_tile(frame: np.ndarray, caption: str, colour: tuple[int, int, int]) -> np.ndarray:
    """The frame in a border of that colour, with a line of text in it above."""
    height, width, _ = frame.shape
    top = BORDER + CAPTION_HEIGHT
    tile = np.empty((height + top + BORDER, width + 2 * BORDER, 3), np.uint8)
    tile[:] = colour
    tile[:top] = _caption(width + 2 * BORDER, caption, colour)
    tile[top:-BORDER, BORDER:-BORDER] = frame
    return tile


@functools.lru_cache(maxsize=64)
def _caption(width: int, caption: str, colour: tuple[int, int, int]) -> np.ndarray:
    """The line of text alone: [BORDER + CAPTION_HEIGHT, width, 3]. Most frames have the last
    one's."""
    strip = Image.new("RGB", (width, BORDER + CAPTION_HEIGHT), colour)
    ink = (20, 20, 20) if sum(colour) > 382 else (255, 255, 255)
    ImageDraw.Draw(strip).text(
        (BORDER + 4, BORDER + 2), caption, fill=ink, font=_font(11 if width < NARROW else 15)
    )
    return np.asarray(strip)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def write_video(path: Path | str, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write [height, width, 3] uint8 frames of one size as h264 in yuv420p: plays everywhere."""
    with atomic_write(Path(path)) as unfinished, unfinished.open("wb") as file:
        encode_video(file, frames, fps)


def encode_video(file: BinaryIO, frames: Iterable[np.ndarray], fps: float) -> None:
    """As `write_video`, to an open file. Raises ValueError for no frames."""
    import av

    stream = None
    with av.open(file, "w", "mp4") as container:
        for pixels in frames:
            even = np.pad(pixels, [(0, n % 2) for n in pixels.shape[:2]] + [(0, 0)], mode="edge")
            if stream is None:
                stream = container.add_stream(
                    "h264", rate=round(fps), options={"crf": "20", "preset": "veryfast"}
                )
                stream.height, stream.width, stream.pix_fmt = *even.shape[:2], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is None:
            raise ValueError("no frames to write")
        container.mux(stream.encode(None))


def write_png(path: Path | str, image: np.ndarray) -> None:
    """Write an image [height, width, 3] uint8."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    with atomic_write(Path(path)) as unfinished:
        unfinished.write_bytes(buffer.getvalue())
