"""Line charts side by side, drawn with pillow: what the benchmarks' pictures need, and no more."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SCALE = 2  # drawn at twice the size that is shown
WIDTH, HEIGHT = 330 * SCALE, 300 * SCALE
LEFT, RIGHT, TOP, BOTTOM = 52 * SCALE, 14 * SCALE, 40 * SCALE, 44 * SCALE
INK, GRID = "#222222", "#e2e2e2"


@dataclass(frozen=True)
class Curve:
    """One value for each tick of the horizontal axis; intervals: (low, high) for each."""

    name: str
    colour: str
    values: Sequence[float]
    intervals: Sequence[Sequence[float]] | None = None


@dataclass(frozen=True)
class Panel:
    """A chart. from_zero: whether its vertical axis begins at 0."""

    title: str
    curves: Sequence[Curve]
    from_zero: bool = False


def draw_panels(panels: Sequence[Panel], ticks: Sequence[str], axis: str, path: Path) -> None:
    """Write panels side by side, over the same horizontal axis, with one legend, as a PNG."""
    image = Image.new("RGB", (WIDTH * len(panels), HEIGHT + 26 * SCALE), "white")
    canvas = ImageDraw.Draw(image)
    for number, panel in enumerate(panels):
        _draw_panel(canvas, panel, ticks, axis, number * WIDTH)
    _legend(canvas, panels[0].curves)
    image.save(path, optimize=True)


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * SCALE)


def _draw_panel(
    canvas: ImageDraw.ImageDraw, panel: Panel, ticks: Sequence[str], axis: str, offset: int
) -> None:
    bottom, top = _range(panel)
    x = np.linspace(offset + LEFT + 10 * SCALE, offset + WIDTH - RIGHT - 10 * SCALE, len(ticks))

    def y(value: float) -> float:
        return TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    canvas.text((offset + LEFT, TOP - 26 * SCALE), panel.title, INK, _font(13))
    for value in _levels(bottom, top):
        canvas.line((offset + LEFT, y(value), offset + WIDTH - RIGHT, y(value)), GRID, SCALE)
        where = (offset + LEFT - 6 * SCALE, y(value))
        canvas.text(where, f"{value:g}", INK, _font(11), anchor="rm")
    for place, tick in zip(x, ticks, strict=True):
        canvas.text((place, HEIGHT - BOTTOM + 6 * SCALE), tick, INK, _font(11), anchor="mt")
    middle = offset + (LEFT + WIDTH - RIGHT) / 2
    canvas.text((middle, HEIGHT - 20 * SCALE), axis, INK, _font(11), anchor="mt")
    for number, curve in enumerate(panel.curves):
        aside = (
            (number - (len(panel.curves) - 1) / 2) * 3 * SCALE
        )  # so that bars do not hide others
        points = [(place + aside, y(v)) for place, v in zip(x, curve.values, strict=True)]
        for (place, _), interval in zip(
            points, curve.intervals or [], strict=bool(curve.intervals)
        ):
            canvas.line((place, y(interval[0]), place, y(interval[1])), curve.colour, SCALE)
        canvas.line(points, curve.colour, 2 * SCALE, joint="curve")
        for place, height in points:
            canvas.circle((place, height), 3 * SCALE, curve.colour)


def _range(panel: Panel) -> tuple[float, float]:
    values = [v for curve in panel.curves for v in curve.values]
    values += [v for curve in panel.curves for pair in curve.intervals or [] for v in pair]
    low = 0.0 if panel.from_zero else min(values)
    slack = 0.05 * (max(values) - low) or 1.0
    return low if panel.from_zero else low - slack, max(values) + slack


def _levels(low: float, high: float) -> list[float]:
    """Some four round numbers between low and high."""
    rough = (high - low) / 4
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough))
    return [round(float(v), 10) for v in np.arange(np.ceil(low / step) * step, high, step)]


def _legend(canvas: ImageDraw.ImageDraw, curves: Sequence[Curve]) -> None:
    place = float(LEFT)
    for curve in curves:
        middle = HEIGHT + 10 * SCALE
        canvas.line((place, middle, place + 20 * SCALE, middle), curve.colour, 3 * SCALE)
        canvas.text((place + 26 * SCALE, middle), curve.name, INK, _font(12), anchor="lm")
        place += 46 * SCALE + canvas.textlength(curve.name, _font(12))
