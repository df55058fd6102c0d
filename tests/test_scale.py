"""The page on scale says what the script computes."""

from pathlib import Path

import pytest

from dipole.benchmarks.scale import ENCODINGS, Setting, main

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"


def test_the_tables_of_the_page_are_the_scripts(capsys):
    main([])
    page = PAGE.read_text()
    for line in capsys.readouterr().out.splitlines():
        assert line in page


def test_numbers_follow_from_what_is_assumed():
    setting = Setting()
    assert setting.pictures == 10_000 * 3600 * 30 * 4
    assert ENCODINGS[0].size * setting.pictures == pytest.approx(40.9e12, rel=1e-2)
    half = Setting(gpus=32)
    assert half.rate(ENCODINGS[0]) == setting.rate(ENCODINGS[0]) / 2
    assert Setting(gpus=8).all_reduce() == 0  # of one machine: nothing between machines
