"""Units: spellings of the same one are equal, others are not, and nothing is guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data.core.units import canonical, read_units, same_units, units_text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rad", "radians"),
        ("Radian", "rad"),
        ("deg", "degrees"),
        ("°", "deg"),
        ("m", "metres"),
        ("px", "pixels"),
        ("rad/s", "radians per second"),
        ("m/s", "meters/sec"),
        (" deg ", "deg"),
    ],
)
def test_spellings_of_one_unit_are_the_same(one, other):
    assert same_units(one, other, 3)


@pytest.mark.parametrize(
    ("one", "other"),
    [("rad", "deg"), ("m", "mm"), ("m", "M"), ("N", "n"), ("rad", "rad/s"), ("px", "m")],
)
def test_other_units_are_not_the_same(one, other):
    assert not same_units(one, other, 3)


def test_an_unknown_unit_is_compared_with_nothing():
    assert same_units("", "deg", 2)
    assert same_units(("rad", ""), ("rad", "m"), 2)
    assert not same_units(("rad", ""), ("deg", "m"), 2)


def test_one_unit_is_that_of_every_number():
    assert same_units("rad", ("radians", "rad"), 2)
    assert not same_units("rad", ("rad", "m"), 2)


@given(st.text(max_size=12))
def test_the_symbol_of_a_symbol_is_itself(text):
    assert canonical(canonical(text)) == canonical(text)


def test_units_are_a_text_or_a_list_of_them():
    assert read_units(None) == ""
    assert read_units(["rad", "m"]) == ("rad", "m")
    assert read_units(["", ""]) == ""
    for wrong in (3, {"rad": 1}, ["rad", 2]):
        with pytest.raises(ValueError, match="one text, or a list"):
            read_units(wrong)


def test_units_are_said_once_where_all_are_the_same():
    assert units_text(("rad", "rad")) == "rad"
    assert units_text(("rad", "m", "")) == "rad, m, ?"
    assert units_text("") == ""
