"""Lines with error bars as an SVG picture, one panel or several; drawn by matplotlib."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PANEL_INCHES = (7.2, 4.4)
COLOURS = ("#1f6fb4", "#d1571b", "#2e8b57", "#8a4fb0", "#b8860b")
MARKS = ("o", "s", "^", "D")  # the next one when the colours begin again
LIMIT = "#666666"


@dataclass(frozen=True)
class Point:
    """interval: low and high end of its error bar, or (); label: written beside it."""

    x: float
    y: float
    interval: tuple[float, ...] = ()
    label: str = ""


@dataclass(frozen=True)
class Series:
    """A line of points; dashed, and without marks, for limits."""

    name: str
    points: Sequence[Point]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes. Raises ValueError if there is nothing to draw."""

    series: Sequence[Series]
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False

    def __post_init__(self) -> None:
        if not any(each.points for each in self.series):
            raise ValueError("there are no points to plot")


def draw(panels: Sequence[Panel], columns: int = 1) -> str:
    """The text of an SVG file, panels row by row. Raises ValueError if there are none."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    if not panels:
        raise ValueError("there are no panels to draw")
    rows = -(-len(panels) // columns)
    width, height = PANEL_INCHES
    # Texts stay texts, and the same points give the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dipole"}):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        for number, panel in enumerate(panels):
            _draw_panel(figure.add_subplot(rows, columns, number + 1), panel)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _draw_panel(axes: Any, panel: Panel) -> None:
    for number, series in enumerate(panel.series):
        colour = LIMIT if series.dashed else COLOURS[number % len(COLOURS)]
        mark = MARKS[number // len(COLOURS) % len(MARKS)]
        _draw_series(axes, series, colour, mark)
    if panel.log_x:
        axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    _plain_numbers(axes)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.grid(color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_series(axes: Any, series: Series, colour: str, mark: str) -> None:
    x, y = [point.x for point in series.points], [point.y for point in series.points]
    style = {"linestyle": "--"} if series.dashed else {"marker": mark, "markersize": 5}
    axes.plot(x, y, color=colour, label=series.name, **style)
    for point in series.points:
        if point.interval:
            axes.vlines(point.x, point.interval[0], point.interval[-1], color=colour)
        if point.label:
            place = {"xytext": (5, 5), "textcoords": "offset points"}
            axes.annotate(point.label, (point.x, point.y), color=colour, **place)


def _plain_numbers(axes: Any) -> None:
    """1, 2, 5, 10, 20 on logarithmic axes, as numbers and not as powers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
