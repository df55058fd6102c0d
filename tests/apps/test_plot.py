"""Pictures of the benchmarks: what is in them, and that the same points give the same file."""

from xml.etree import ElementTree

import pytest

from dipole.benchmarks.figures.plot import Panel, Point, Series, draw

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture):
    return {element.text for element in ElementTree.fromstring(picture).iter(f"{SVG}text")}


def test_names_labels_and_axes_are_written_and_escaped():
    series = [Series("a < b", [Point(1, 2, (1.5, 2.5), "10 & more"), Point(2, 3)])]
    assert {"a < b", "10 & more", "ms", "score"} <= texts(draw([Panel(series, "ms", "score")]))


def test_logarithmic_axes_are_marked_by_plain_numbers():
    series = [Series("time", [Point(x, 1.0 + x) for x in (3.0, 12.0, 48.0)])]
    marks = texts(draw([Panel(series, "batch", "ms", log_x=True, log_y=True)]))
    assert {"5", "10", "20"} <= marks


def test_a_limit_is_a_dashed_line():
    panel = Panel([Series("limit", [Point(1, 1), Point(2, 2)], dashed=True)], "x", "y")
    assert "stroke-dasharray" in draw([panel])


def test_the_same_points_give_the_same_file():
    panels = [Panel([Series(name, [Point(1, 2), Point(2, 1)])], "x", "y") for name in "abc"]
    assert draw(panels, columns=2) == draw(panels, columns=2)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="no points"):
        Panel([Series("empty", [])], "x", "y")
    with pytest.raises(ValueError, match="no panels"):
        draw([])
