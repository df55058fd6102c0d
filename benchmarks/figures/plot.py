"""Lines with error bars as an SVG picture, without a plotting library."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 72, 150, 24, 56
COLOURS = ("#1f6fb4", "#d1571b", "#2e8b57", "#8a4fb0")
LIMIT = "#666666"
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Point:
    """interval: low and high end of its error bar; label: written beside it."""

    x: float
    y: float
    interval: tuple[float, ...] = ()
    label: str = ""


@dataclass(frozen=True)
class Series:
    """A line of points; dashed for limits."""

    name: str
    points: Sequence[Point]
    dashed: bool = False


def plot(
    series: Sequence[Series], x_label: str, y_label: str, log_x: bool = False, log_y: bool = False
) -> str:
    """The picture, as the text of an SVG file. Raises ValueError where there is nothing to draw."""
    points = [point for each in series for point in each.points]
    if not points:
        raise ValueError("there are no points to plot")
    heights = [y for point in points for y in (point.y, *point.interval)]
    x, x_ticks = _axis([point.x for point in points], LEFT, WIDTH - RIGHT, log_x)
    y, y_ticks = _axis(heights, HEIGHT - BOTTOM, TOP, log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_grid(x, x_ticks, y, y_ticks),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label, "middle"),
        f'<g transform="rotate(-90 18 {HEIGHT / 2})">'
        f"{_text(18, HEIGHT / 2, y_label, 'middle')}</g>",
    ]
    for number, each in enumerate(series):
        colour = LIMIT if each.dashed else COLOURS[number % len(COLOURS)]
        parts += _line(each, colour, x, y)
        place = TOP + 16 + 20 * number
        parts.append(_text(WIDTH - RIGHT + 12, place, each.name, "start", colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def beside(pictures: Sequence[str], columns: int) -> str:
    """Pictures of `plot` as one, row by row. Raises ValueError where there are none."""
    if not pictures:
        raise ValueError("there are no pictures to put beside each other")
    rows = math.ceil(len(pictures) / columns)
    head = '<svg xmlns="http://www.w3.org/2000/svg" '
    parts = [f'{head}viewBox="0 0 {WIDTH * columns} {HEIGHT * rows}">']
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        place = f'x="{column * WIDTH}" y="{row * HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        parts.append(picture.replace(head, head + place, 1).rstrip("\n"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axis(
    values: Sequence[float], start: float, stop: float, log: bool
) -> tuple[Scale, list[float]]:
    """From a value to its place, and the values to mark."""
    low, high = min(values), max(values)
    ticks = _decades(low, high) if log else _round_steps(low, high)
    measure: Scale = math.log if log else float
    first, last = measure(min(low, ticks[0])), measure(max(high, ticks[-1]))
    span = (last - first) or 1.0

    def place(value: float) -> float:
        return start + (stop - start) * (measure(value) - first) / span

    return place, ticks


def _decades(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20, ... from below the lowest to above the highest."""
    first = math.floor(math.log10(low))
    steps = [m * 10.0**e for e in range(first, first + 12) for m in (1, 2, 5)]
    below = max(step for step in steps if step <= low * 1.0001)
    above = min(step for step in steps if step >= high * 0.9999)
    return [step for step in steps if below <= step <= above]


def _round_steps(low: float, high: float) -> list[float]:
    """Four to nine round numbers around the range."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(m for m in (1, 2, 5, 10) if span / (m * step) <= 8)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _grid(x: Scale, x_ticks: list[float], y: Scale, y_ticks: list[float]) -> Iterator[str]:
    top, bottom = y(y_ticks[-1]), y(y_ticks[0])
    for tick in x_ticks:
        yield _stroke(x(tick), top, x(tick), bottom, "#dddddd")
        yield _text(x(tick), HEIGHT - BOTTOM + 18, f"{tick:g}", "middle")
    for tick in y_ticks:
        yield _stroke(LEFT, y(tick), WIDTH - RIGHT, y(tick), "#dddddd")
        yield _text(LEFT - 8, y(tick) + 4, f"{tick:g}", "end")


def _line(series: Series, colour: str, x: Scale, y: Scale) -> Iterator[str]:
    path = " ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point in series.points)
    dashes = ' stroke-dasharray="6 4"' if series.dashed else ""
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
    for point in series.points:
        at, height = x(point.x), y(point.y)
        if point.interval:
            yield _stroke(at, y(point.interval[0]), at, y(point.interval[-1]), colour)
        if not series.dashed:
            yield f'<circle cx="{at:.1f}" cy="{height:.1f}" r="3.5" fill="{colour}"/>'
        if point.label:
            yield _text(at + 6, height - 6, point.label, "start", colour)


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#222222") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{escape(text)}</text>"
