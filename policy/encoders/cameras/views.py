"""From a camera's pictures, as they are stored, to what a network sees: size, crop, augmentation.

    uint8 [B, To, H, W, 3] ── resize ──> [H', W'] ── crop, at random in training ──> [h, w]
                           ── colours and more, in training ──> float [B * To, 3, h, w] in [0, 1]

Cutting comes while pictures are bytes, and where colours stay they are handed on as bytes (see
`View.pixels`), in channels_last memory either way. Resizing leaves bytes on a CPU; on other devices
and in exported graphs it makes floats, the same to within one grey level (`resize.py`).

A grey picture [B, To, H, W, 1] becomes three equal colours, and is then any other picture. Depth
[B, To, H, W, 1], normalised to [-1, 1], is cut the same way; resized, it is the nearest pixels and
no average; it is otherwise left as it is, and ends as a grey picture.

All of it on the pictures' device. Chance is per sample: the To pictures of one window are cut and
coloured alike, so that what moves between them moved in the world. It comes from torch's global
generator, which training seeds anew for every step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.encoders.cameras.augmentation.augment import Augmentation, augmented
from dipole.policy.encoders.cameras.pixels import LARGEST, unit_range
from dipole.policy.encoders.cameras.resize import Size, resize, resize_depth

SHARE_TO_SEE = 0.5  # of a picture, below which a crop is warned of
Place = tuple[Tensor, Tensor]  # of a cut: rows above it and columns left of it, int64 [B] each
MARGIN = 84 / 96  # of the resized picture's shorter side that a crop should have: the published one


@dataclass(frozen=True)
class ViewConfig:
    """resize: the size to bring pictures to first; crop: what of them the network sees: pixels, a
    share of each side as a number up to 1, or None for all. A single number of pixels is a square;
    1 is a share, all of the picture.
    """

    resize: int | tuple[int, int] | None = None
    crop: float | tuple[int, int] | None = None

    def sizes(self, shape: tuple[int, ...], camera: str) -> tuple[Size, Size]:
        """For pictures of this shape [H, W, 3], or 1, grey or depth: the size after resizing, and
        that of the crop.

        Raises ConfigError, naming the camera, for a shape that is no picture's and for a crop that
        is larger than the picture.
        """
        if len(shape) != 3 or shape[2] not in (1, 3):
            raise ConfigError(
                f"camera {camera!r} has pictures of shape {list(shape)}: height, width and 3 "
                "colours, or 1, grey or depth, are needed"
            )
        resized = _size(self.resize, camera, "resize") or (shape[0], shape[1])
        share = self.crop if isinstance(self.crop, int | float) else None
        if share is not None and share is not True and 0 < share <= 1:
            crop = (round(resized[0] * share), round(resized[1] * share))
        else:
            crop = _size(self.crop, camera, "crop") or resized
        if crop[0] > resized[0] or crop[1] > resized[1] or min(crop) < 1:
            raise ConfigError(
                f"camera {camera!r}: a crop of {crop[0]} x {crop[1]} from pictures of "
                f"{resized[0]} x {resized[1]}: make it smaller, or resize to more"
            )
        return resized, crop


def _size(value: Any, camera: str, what: str) -> Size | None:
    if value is None:
        return None
    both = value if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    pair = tuple(both)
    if len(pair) != 2 or any(type(size) is not int or size < 1 for size in pair):
        raise ConfigError(
            f"camera {camera!r}: {what} is {value!r}: a number of pixels, or [height, width]"
        )
    return pair


class View(nn.Module):
    """One camera's pictures as the network sees them; in eval mode the same every time.

    shape: of a picture that is given, [H, W, 3] or grey [H, W, 1], or of depth, [H, W, 1];
    resized: its size after that; size: height and width of what comes out.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        config: ViewConfig,
        augmentation: Augmentation,
        camera: str,
        is_depth: bool = False,
    ) -> None:
        super().__init__()
        self.augmentation, self.shape, self.is_depth = augmentation, shape, is_depth
        self.resized, self.size = config.sizes(shape, camera)
        self._resizes = self.resized != tuple(shape[:2])
        self.camera = camera
        wants_cuts = augmentation.crop and config.crop not in (None, 1)
        self._cannot_move = wants_cuts and not augmentation.shift and self.size == self.resized
        if augmentation.shift >= min(self.size):
            raise ConfigError(
                f"camera {camera!r}: augment.shift is {augmentation.shift}, and the network sees "
                f"{self.size[0]} x {self.size[1]} pixels, which could all lie beyond the edge"
            )

    @property
    def share(self) -> float:
        """How much of the picture's area the crop keeps, up to 1."""
        return self.size[0] * self.size[1] / (self.resized[0] * self.resized[1])

    def describe(self) -> str:
        """What becomes of the camera's pictures, in one line; a warning and a way out where the
        crop leaves out the most of them."""
        sizes = [f"{size[0]}×{size[1]}" for size in (self.shape, self.resized, self.size)]
        line = f"camera {self.camera}: {sizes[0]}, resized to {sizes[1]}, seen {sizes[2]}"
        if self._cannot_move:
            return f"{line}; there is nothing to crop at random: crop less, or set augment.shift"
        if self.share >= SHARE_TO_SEE:
            return line
        scale = max(want / have for want, have in zip(self.size, self.shape, strict=False)) / MARGIN
        wanted = [round(side * scale) for side in self.shape[:2]]
        return (
            f"{line}\nwarning: of camera {self.camera} the policy sees {self.share:.1%}, the "
            "middle of the picture: to let it see the most of it, set "
            f"policy.encoder.resize=[{wanted[0]},{wanted[1]}], or for this camera alone "
            f"'policy.encoder.resize={{{self.camera}: [{wanted[0]}, {wanted[1]}]}}'"
        )

    def is_cut_like(self, other: "View") -> bool:
        """Whether a place in one picture is the same place in the other."""
        return (self.resized, self.size) == (other.resized, other.size)

    def draw_place(self, rows: int, device: torch.device) -> Place | None:
        """Where training cuts the pictures of each of `rows` samples; None: evaluation's middle."""
        if not self.training:
            return None
        slack = [have - want for have, want in zip(self.resized, self.size, strict=True)]
        top, left = (_draw_offset(each, self.augmentation, rows, device) for each in slack)
        return top, left

    def moved(self, place: Place) -> Tensor:
        """How far a cut is from evaluation's middle, [B, 2], x to the right and y down, as shares
        of the picture's width and height."""
        down, right = (
            (start - self.augmentation.shift - (have - want) // 2) / have
            for start, have, want in zip(place, self.resized, self.size, strict=True)
        )
        return torch.stack([right, down], dim=1)

    def forward(self, pictures: Tensor, place: Place | None = None) -> Tensor:
        """pictures: uint8 [B, To, H, W, 3 or 1], or depth -> float [B * To, 3, h, w] in [0, 1].

        place: As `draw_place` gave it, of this view or one that is cut like it; in training it is
        drawn where it is left out.
        """
        return unit_range(self.pixels(pictures, place))

    def pixels(self, pictures: Tensor, place: Place | None = None) -> Tensor:
        """The same as uint8, 0 to 255, where that is what they still are."""
        rows = pictures.shape[0]
        flat = pictures.flatten(0, 1)  # [N, H, W, C]
        if self._resizes:
            flat = (resize_depth if self.is_depth else _resize)(flat, self.resized)
        if self.training:
            drawn = self.draw_place(rows, flat.device) if place is None else place
            assert drawn is not None
            cut = _cut_at(flat, self.size, self.augmentation.shift, drawn)  # [N, C, h, w]
        else:
            cut = _centre_crop(flat, self.size)
        cut = cut.expand(-1, 3, -1, -1)
        if self.is_depth:
            return (cut.float() + 1) / 2
        changes = self.training and self.augmentation.changes_colours
        if cut.dtype == torch.uint8 and not changes:
            return cut
        images = cut.float() / LARGEST
        return augmented(images, self.augmentation, rows) if changes else images


def _resize(flat: Tensor, size: Size) -> Tensor:
    """[N, H, W, C] -> [N, h, w, C], each new pixel an average of the old ones it covers: bytes on a
    CPU, floats in [0, 255] elsewhere."""
    return resize(flat.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)


def _centre_crop(flat: Tensor, size: Size) -> Tensor:
    """[N, H, W, C] -> [N, C, h, w]"""
    top, left = ((have - want) // 2 for have, want in zip(flat.shape[1:3], size, strict=True))
    return flat[:, top : top + size[0], left : left + size[1]].permute(0, 3, 1, 2)


def _draw_offset(slack: int, augmentation: Augmentation, rows: int, device: torch.device) -> Tensor:
    """Of a cut's beginning, for each of `rows` samples, int64; slack: by how much pictures are
    larger than it."""
    shift = augmentation.shift
    if augmentation.crop:
        return torch.randint(slack + 2 * shift + 1, (rows,), device=device)
    return slack // 2 + torch.randint(2 * shift + 1, (rows,), device=device)


def _cut_at(flat: Tensor, size: Size, shift: int, place: Place) -> Tensor:
    """[N, H, W, C] -> [N, C, h, w], at each sample's place.

    shift: how far beyond the picture's edge a cut may reach; the outermost pixels are repeated.
    All of a picture without a shift is the picture as it is.
    """
    count, height, width, channels = flat.shape
    if size == (height, width) and not shift:
        return flat.permute(0, 3, 1, 2)
    top, left = (offset.repeat_interleave(count // len(offset)) for offset in place)  # [N]
    rows = _lines(top, size[0], shift, height)  # [N, h]
    columns = _lines(left, size[1], shift, width)  # [N, w]
    first = height * torch.arange(count, device=flat.device)[:, None]  # row of each picture
    lines = flat.reshape(count * height, width * channels).index_select(0, (first + rows).flatten())
    channel = torch.arange(channels, device=flat.device)
    places = (channels * columns[:, :, None] + channel).flatten(1)  # [N, w * C], within a line
    lines = lines.view(count, size[0], -1)
    cut = lines.gather(2, places[:, None].expand(-1, size[0], -1))  # [N, h, w * C]
    return cut.view(count, *size, channels).permute(0, 3, 1, 2)


def _lines(start: Tensor, size: int, shift: int, have: int) -> Tensor:
    """Which of a picture's `have` lines a cut shows, [N, size], the outermost in place of those
    beyond the edge; start: [N], counted from `shift` lines before the first."""
    lines = start[:, None] + torch.arange(size, device=start.device) - shift
    return lines.clamp(0, have - 1)


def per_camera(value: Any, cameras: list[str], what: str) -> dict[str, Any]:
    """An option that holds for all cameras, or a table of it by camera (absent: None)."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(cameras, value)
    for name in value:
        if name not in cameras:
            raise ConfigError(f"{what}: no camera {name!r}; there are {', '.join(cameras)}")
    return {name: value.get(name) for name in cameras}
