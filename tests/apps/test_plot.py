"""Plots without a plotting library."""

from xml.etree import ElementTree

import pytest

from dipole.benchmarks.figures.plot import HEIGHT, WIDTH, Point, Series, beside, plot

SVG = "{http://www.w3.org/2000/svg}"


def places(picture):
    circles = ElementTree.fromstring(picture).iter(f"{SVG}circle")
    return [(float(circle.get("cx")), float(circle.get("cy"))) for circle in circles]


def test_more_is_to_the_right_and_higher():
    points = [Point(1.0, 0.5), Point(2.0, 0.75), Point(3.0, 1.0)]
    (x1, y1), (x2, y2), (x3, y3) = places(plot([Series("score", points)], "x", "y"))
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.11)
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.11)
    assert x3 > x1
    assert y3 < y1  # pictures count downwards


def test_equal_factors_are_equally_far_apart_on_a_logarithmic_axis():
    points = [Point(x, 1.0 + x) for x in (3.0, 12.0, 48.0)]
    (x1, _), (x2, _), (x3, _) = places(plot([Series("time", points)], "x", "y", log_x=True))
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.11)


def test_names_and_labels_are_written_and_escaped():
    picture = plot([Series("a < b", [Point(1, 2, (1.5, 2.5), "10 & more")])], "ms", "score")
    texts = [element.text for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]
    assert {"a < b", "10 & more", "ms", "score"} <= set(texts)


def test_a_limit_is_a_dashed_line_without_points():
    line = Series("limit", [Point(1, 1), Point(2, 2)], dashed=True)
    picture = plot([line], "x", "y")
    assert "stroke-dasharray" in picture
    assert places(picture) == []


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="no points"):
        plot([Series("empty", [])], "x", "y")


def test_pictures_are_put_beside_each_other_row_by_row():
    pictures = [plot([Series(name, [Point(1, 2)])], "x", "y") for name in "abc"]
    whole = ElementTree.fromstring(beside(pictures, columns=2))
    inner = [(int(each.get("x")), int(each.get("y"))) for each in whole.findall(f"{SVG}svg")]
    assert inner == [(0, 0), (WIDTH, 0), (0, HEIGHT)]
    assert whole.get("viewBox") == f"0 0 {2 * WIDTH} {2 * HEIGHT}"
    with pytest.raises(ValueError, match="no pictures"):
        beside([], columns=2)
