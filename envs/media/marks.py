"""Marks in a camera's picture: keypoints of a policy, and a heat map; and what they mean."""

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dipole.policy.inspection.attention import ATTENTION
from dipole.policy.inspection.influence import INFLUENCE

LEAST, MOST = 2.0, 7.0  # radius of a keypoint that is spread evenly, and of one in a single cell
STRENGTH = "strength"  # a heat map of how long a cell's features are
COLD, HOT = (255, 205, 0), (190, 0, 70)
COVER = 0.8  # of the picture by the heat map where it is hottest
LINE, TEXT = 22, 13  # heights in a legend, pixels
INK, PAPER = (20, 20, 20), (245, 245, 245)
HEATS = {
    ATTENTION: "attention of the next actions to a place, above an even share",
    INFLUENCE: "influence: how far the next actions would move if a place were empty",
    STRENGTH: "strength: how long a place's features are",
}


def draw_keypoints(
    shown: Image.Image, keypoints: np.ndarray, sharpness: np.ndarray, size: float = 1.0
) -> None:
    """Draw keypoints [K, 2], x and y in pixels of `shown`, the sharper (0 to 1) the larger.

    size: Of the marks, 1 for a picture of 320 pixels.
    """
    draw = ImageDraw.Draw(shown)
    for number in np.argsort(sharpness):  # the sharpest last, above the others
        x, y = (float(value) for value in keypoints[number])
        radius = size * _radius(float(sharpness[number]))
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill=hue(number / len(keypoints)), outline="black")


def with_heat(shown: Image.Image, cells: np.ndarray) -> Image.Image:
    """The picture in grey beneath a heat map [h', w'] from 0 to 1."""
    heat = Image.fromarray(np.clip(cells, 0, 1).astype(np.float32))
    by_pixel = np.asarray(heat.resize(shown.size, Image.Resampling.BICUBIC))[..., None].clip(0, 1)
    grey = np.asarray(shown.convert("L"), np.float32)[..., None]
    cover = COVER * by_pixel
    return Image.fromarray(((1 - cover) * grey + cover * _heat_colour(by_pixel)).astype(np.uint8))


def legend(width: int, kinds: Sequence[str], keypoints: bool) -> np.ndarray:
    """What the marks mean, [height, width, 3] uint8: a line for keypoints, where there are some,
    and one for each kind of heat map."""
    lines = [_keypoints_line(width)] if keypoints else []
    return np.concatenate([*lines, *(_heat_line(width, kind) for kind in kinds)])


def label(shown: Image.Image, text: str) -> None:
    """Write a line of text on a dark ground into the lower left corner."""
    draw, place = ImageDraw.Draw(shown), (4, shown.height - 4)
    left, top, right, _ = draw.textbbox(place, text, font(TEXT), "ls")
    draw.rectangle((left - 4, top - 3, right + 4, shown.height), INK)
    draw.text(place, text, PAPER, font(TEXT), "ls")


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow."""
    return ImageFont.load_default(size=size)


def hue(share: float) -> tuple[int, int, int]:
    """Around the wheel of hues, so that a keypoint is found again in the next picture."""
    colour = Image.new("HSV", (1, 1), (int(255 * share), 220, 255)).convert("RGB")
    red, green, blue = np.asarray(colour)[0, 0].tolist()
    return red, green, blue


def _radius(sharpness: float) -> float:
    return LEAST + (MOST - LEAST) * sharpness


def _heat_colour(heat: np.ndarray) -> np.ndarray:
    """[..., 1] from 0 to 1 -> [..., 3]"""
    colours: np.ndarray = heat * np.array(HOT, np.float32)
    colours += (1 - heat) * np.array(COLD, np.float32)
    return colours


def _line(width: int, text: str, marks: int) -> Image.Image:
    """A line of a legend, with room for marks so wide before its text."""
    line = Image.new("RGB", (width, LINE), PAPER)
    ImageDraw.Draw(line).text((marks + 16, LINE // 2), text, INK, font(TEXT), "lm")
    return line


def _keypoints_line(width: int) -> np.ndarray:
    line = _line(width, "keypoints: one colour each; large: in one cell, small: spread out", 70)
    places = np.array([[14.0, LINE / 2], [34.0, LINE / 2], [58.0, LINE / 2]])
    draw_keypoints(line, places, np.array([0.0, 0.5, 1.0]))
    return np.asarray(line)


def _heat_line(width: int, kind: str) -> np.ndarray:
    line = _line(width, HEATS[kind], 70)
    bar = np.linspace(0, 1, 62, dtype=np.float32)[None, :, None].repeat(LINE - 8, 0)
    white = np.full_like(bar, 255)
    colours = (1 - COVER * bar) * white + COVER * bar * _heat_colour(bar)
    line.paste(Image.fromarray(colours.astype(np.uint8)), (8, 4))
    return np.asarray(line)
