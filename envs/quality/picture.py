"""Chunks over what was demonstrated, and how error and spread go together: one picture."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dipole.envs.quality.aspects import Aspects
from dipole.envs.quality.table import rows, title

PANELS, COLUMNS = 8, 4
PANEL, MARGIN, TITLE = 240, 12, 22  # pixels
OVERSAMPLING = 2
INK, GREY, SAMPLED = (20, 20, 20), (205, 205, 205), (31, 111, 180)
LINE = 17  # pixels from one line of text to the next
TABS = (0, 150, 235)  # pixels, where the table's columns begin
TEXT = 640  # pixels, the table's width
LEGEND = "executed part of chunks for held-out observations: demonstrated in black, sampled in blue"

Points = np.ndarray  # [..., F, 2], x to the right, y down
Colour = tuple[int, int, int]


def aspects_picture(aspects: Aspects) -> np.ndarray:
    """[height, width, 3] uint8.

    Above, observations from the lowest to the highest energy score: demonstrated chunk in black,
    sampled ones in blue; their first two principal axes where an action has more than two numbers,
    over time where it has one. Below, error and spread of each observation, and the table.
    """
    scores = aspects.errors - aspects.spreads / 2
    order = np.argsort(scores)
    shown = order[np.unique(np.linspace(0, len(order) - 1, PANELS).round().astype(int))]
    project = _projection(aspects.demonstrated)
    over_time = aspects.demonstrated.shape[-1] == 1
    panels = [
        _titled(
            f"energy score {scores[i]:.3f}",
            _chunks_panel(project(aspects.samples[i]), project(aspects.demonstrated[i]), over_time),
        )
        for i in shown
    ]
    scatter = _titled("spread (up), error (right)", _scatter_panel(aspects.errors, aspects.spreads))
    return _laid_out(panels, scatter, aspects.values)


def _projection(demonstrated: np.ndarray) -> Callable[[np.ndarray], Points]:
    """How actions [..., F, A] become points. demonstrated: [N, F, A]."""
    count = demonstrated.shape[-1]
    if count == 1:
        return lambda actions: np.concatenate([_time_like(actions), -actions], -1)
    if count == 2:
        return lambda actions: actions
    flat = demonstrated.reshape(-1, count)
    axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:2]  # [2, A]
    return lambda actions: actions @ axes.T


def _time_like(actions: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.linspace(0, 1, actions.shape[-2])[:, None], actions.shape)


def _chunks_panel(samples: Points, demonstrated: Points, over_time: bool) -> Image.Image:
    """samples: [S, F, 2]; demonstrated: [F, 2]. over_time: time and action have no unit in common,
    so that each fills the panel."""
    both = np.concatenate([samples.reshape(-1, 2), demonstrated])
    centre, extent = (both.min(0) + both.max(0)) / 2, np.ptp(both, axis=0)
    half = np.maximum(1e-6, (extent if over_time else extent.max()) / 2) * 1.1
    panel, draw = _blank()
    for points in samples:
        _path(draw, (points - centre) / half, SAMPLED, 1)
    _path(draw, (demonstrated - centre) / half, INK, 3)
    return panel


def _path(draw: ImageDraw.ImageDraw, points: Points, colour: Colour, width: int) -> None:
    """points: [F, 2] in [-1, 1]; a dot where it begins."""
    places = [tuple(place) for place in ((points + 1) / 2 * PANEL * OVERSAMPLING).tolist()]
    if len(places) > 1:
        draw.line(places, fill=colour, width=width * OVERSAMPLING, joint="curve")
    _dot(draw, places[0], colour, 1.5 + width)


def _scatter_panel(errors: np.ndarray, spreads: np.ndarray) -> Image.Image:
    """Observations on the grey line are as varied as demonstrations are far on average."""
    panel, draw = _blank()
    largest = max(1e-6, float(max(errors.max(), spreads.max()))) * 1.05
    size = PANEL * OVERSAMPLING
    draw.line([(0, size), (size, 0)], fill=GREY, width=2 * OVERSAMPLING)
    for error, spread in zip(errors / largest, spreads / largest, strict=True):
        _dot(draw, (float(error) * size, (1 - float(spread)) * size), SAMPLED, 2.5)
    return panel


def _dot(draw: ImageDraw.ImageDraw, place: Sequence[float], colour: Colour, radius: float) -> None:
    x, y, r = place[0], place[1], radius * OVERSAMPLING
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _blank() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    size = PANEL * OVERSAMPLING
    panel = Image.new("RGB", (size, size), "white")
    return panel, ImageDraw.Draw(panel)


def _titled(title: str, panel: Image.Image) -> Image.Image:
    """The panel at its size, in a frame, below a line of text."""
    whole = Image.new("RGB", (PANEL + 2, PANEL + 2 + TITLE), "white")
    draw = ImageDraw.Draw(whole)
    draw.text((2, 2), title, fill=INK, font=_font())
    whole.paste(panel.resize((PANEL, PANEL), Image.Resampling.LANCZOS), (1, TITLE + 1))
    draw.rectangle((0, TITLE, PANEL + 1, PANEL + 1 + TITLE), outline=GREY)
    return whole


def _laid_out(
    panels: Sequence[Image.Image], scatter: Image.Image, values: Mapping[str, Any]
) -> np.ndarray:
    step_x, step_y = panels[0].width + MARGIN, panels[0].height + MARGIN
    n_rows = -(-len(panels) // COLUMNS)
    top = MARGIN + LINE + n_rows * step_y  # of what is below the panels
    width = MARGIN + max(COLUMNS * step_x, step_x + TEXT)
    whole = Image.new("RGB", (width, top + max(step_y, LINE * (len(rows(values)) + 2))), "white")
    draw = ImageDraw.Draw(whole)
    draw.text((MARGIN, 4), LEGEND, fill=INK, font=_font())
    for number, panel in enumerate(panels):
        column, row = number % COLUMNS, number // COLUMNS
        whole.paste(panel, (MARGIN + column * step_x, MARGIN + LINE + row * step_y))
    whole.paste(scatter, (MARGIN, top))
    _write_table(draw, MARGIN + step_x, top, values)
    return np.asarray(whole)


def _write_table(draw: ImageDraw.ImageDraw, x: int, y: int, values: Mapping[str, Any]) -> None:
    draw.text((x, y), title(values), fill=INK, font=_font())
    for number, row in enumerate(rows(values), 1):
        for column, text in zip(TABS, row, strict=True):
            draw.text((x + column, y + number * LINE), text, fill=INK, font=_font())


def _font() -> Any:
    return ImageFont.load_default(size=13)
