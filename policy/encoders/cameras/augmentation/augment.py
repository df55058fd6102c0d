"""What training does to pictures so that a policy does not learn them by heart."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.encoders.cameras.augmentation.colours import LUMA, change_colours, mean_colours
from dipole.policy.encoders.cameras.augmentation.cutout import FILLS, cut_out
from dipole.policy.encoders.cameras.augmentation.grain import add_noise, soften

__all__ = ["LUMA", "Augmentation", "augmented"]

SHARES = ("brightness", "contrast", "saturation", "cutout", "blur", "noise")


@dataclass(frozen=True)
class Augmentation:
    """In training alone; evaluation sees the middle of the picture in its own colours.

    All but `noise` is drawn for each window, and the same for its frames.

    crop: Cut at a random place, where the view crops: for cameras that are not always mounted
        alike, and so that positions are not learned by heart.
    shift: Pixels that the cut may further move beyond the picture's edges.
    brightness, contrast, saturation: Each is multiplied by a number drawn between 1 - s and 1 + s:
        for other light and other exposure.
    hue: Colours are turned around the grey axis by up to this share of the circle, either way: for
        other lamps and white balance; not where colours tell things apart.
    cutout: Rectangles are hidden whose sides are up to this share of the picture's: for objects
        and arms that get in the way, and so that no single place decides.
    cutout_count: How many rectangles. cutout_fill: "mean", the window's mean colour, or "noise".
    blur: The picture is mixed with its average over 3x3 pixels (binomial) by up to this share: for
        cameras that are out of focus, and simulators' sharp edges.
    noise: Normal noise of up to this standard deviation, 1 being from black to white; each frame
        has noise of its own, as sensors do: for dark scenes and cheap cameras.
    """

    crop: bool = True
    shift: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    cutout: float = 0.0
    cutout_count: int = 1
    cutout_fill: str = "mean"
    blur: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if type(self.shift) is not int or self.shift < 0:
            raise ConfigError(f"augment.shift is {self.shift!r}: a number of pixels, 0 or more")
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name} is {getattr(self, name)}: between 0 and 1")
        if not 0 <= self.hue <= 0.5:
            raise ConfigError(f"augment.hue is {self.hue}: a share of the circle, 0 to 0.5")
        if type(self.cutout_count) is not int or self.cutout_count < 1:
            raise ConfigError(f"augment.cutout_count is {self.cutout_count!r}: at least 1")
        if self.cutout_fill not in FILLS:
            raise ConfigError(
                f"augment.cutout_fill is {self.cutout_fill!r}: choose {' or '.join(FILLS)}"
            )

    @property
    def changes_colours(self) -> bool:
        """Whether pictures are not what they were but for their place."""
        return any(getattr(self, name) for name in (*SHARES, "hue"))


def augmented(images: Tensor, augmentation: Augmentation, rows: int) -> Tensor:
    """images: [N, 3, h, w] in [0, 1], N a multiple of rows, in order -> the same, changed as the
    augmentation says (crop and shift aside), in [0, 1] and in their memory layout.

    The pictures of one row are changed alike, noise aside.
    """
    if not augmentation.changes_colours:
        return images
    device = images.device.type
    autocast = torch.is_autocast_enabled(device)  # colours of bytes need more than its 8 bits
    with torch.autocast(device, enabled=False) if autocast else nullcontext():
        return _augmented(images, augmentation, rows)


def _augmented(images: Tensor, a: Augmentation, rows: int) -> Tensor:
    colours = bool(a.brightness or a.contrast or a.saturation or a.hue)
    needed = a.contrast or (a.cutout and a.cutout_fill == "mean")
    mean = mean_colours(images, rows) if needed else None
    if a.blur:
        images = soften(images, a.blur, rows)
    if colours:
        images, mean = change_colours(
            images, mean, rows, a.brightness, a.contrast, a.saturation, a.hue
        )
    if a.noise:
        images = add_noise(images, a.noise, rows)
    if a.cutout:
        fill = mean if a.cutout_fill == "mean" else None
        images = cut_out(images, fill, rows, a.cutout, a.cutout_count)
    return images
