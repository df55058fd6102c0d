"""Episode numbers as a person writes and reads them."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dipole.data import ConfigError
from dipole.data.core.episode_numbers import format_episode_numbers, parse_episode_numbers


def test_numbers_and_ranges_are_taken_once_in_their_order():
    assert parse_episode_numbers("9,4-6,5") == (9, 4, 5, 6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("7-3", "7-3 runs backwards and selects nothing; write 3-7"),
        ("", "numbers and ranges"),
        ("1,,2", "numbers and ranges"),
        ("-3", "numbers and ranges"),
        ("a", "numbers and ranges"),
        ("\u0663", "numbers and ranges"),  # a digit to Python, not to people here
        ("1-99999999999", "are more than"),
    ],
)
def test_what_selects_nothing_or_everything_is_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        parse_episode_numbers(text)


@given(st.sets(st.integers(0, 200), min_size=1))
def test_what_is_written_reads_the_same(numbers):
    text = format_episode_numbers(sorted(numbers))
    assert parse_episode_numbers(text) == tuple(sorted(numbers))


def test_runs_are_written_as_ranges():
    assert format_episode_numbers([0, 1, 2, 3, 5, 7, 8]) == "0-3,5,7-8"
    assert format_episode_numbers([]) == ""
