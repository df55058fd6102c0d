"""What training does to pictures so that a policy does not learn them by heart."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in a grey picture (ITU-R BT.601)


@dataclass(frozen=True)
class Augmentation:
    """In training alone; evaluation sees the middle of the picture in its own colours.

    crop: cut at a random place, where the view crops. shift: pixels that the cut may further move
    beyond the picture's edges. brightness, contrast, saturation: each is multiplied by a number
    drawn between 1 - s and 1 + s.
    """

    crop: bool = True
    shift: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        if type(self.shift) is not int or self.shift < 0:
            raise ConfigError(f"augment.shift is {self.shift!r}: a number of pixels, 0 or more")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name} is {getattr(self, name)}: between 0 and 1")

    @property
    def changes_colours(self) -> bool:
        """Whether pictures are not what they were but for their place."""
        return bool(self.brightness or self.contrast or self.saturation)


def jitter_colours(images: Tensor, augmentation: Augmentation, rows: int) -> Tensor:
    """images: [N, 3, h, w] in [0, 1], N a multiple of rows, in order -> the same in other colours.

    The pictures of one row are changed alike.
    """

    def factors(strength: float) -> Tensor:
        drawn = 1 + strength * (2 * torch.rand(rows, device=images.device) - 1)
        return drawn.repeat_interleave(len(images) // rows)[:, None, None, None]

    if augmentation.brightness:
        images = (images * factors(augmentation.brightness)).clamp(0, 1)
    if augmentation.contrast:
        mean = _grey(images).mean((2, 3), keepdim=True)
        images = torch.lerp(mean, images, factors(augmentation.contrast)).clamp(0, 1)
    if augmentation.saturation:
        images = torch.lerp(_grey(images), images, factors(augmentation.saturation)).clamp(0, 1)
    return images


def _grey(images: Tensor) -> Tensor:
    """[N, 1, h, w]; numbers go with the operation, a tensor of them would have to be copied."""
    red, green, blue = (images[:, channel : channel + 1] for channel in range(3))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
