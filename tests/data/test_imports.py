"""Imports within data/ point down, and no two of its files import each other in a circle."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from import_graph import assert_no_circle, at_import, entries, imported, layer, modules

# From the lowest. Those in one row know nothing of each other.
ROWS = (
    {"core"},
    {"transforms"},
    {"store"},
    {"loading", "sources", "recording"},
    {"convert"},
    {"export", "inspection"},
    {"view"},
)
RANK = {layer: row for row, layers in enumerate(ROWS) for layer in layers}


FILES = modules("data")


@pytest.mark.parametrize("name", sorted(name for name in FILES if layer(name)))
def test_a_file_imports_from_its_own_folder_and_from_lower_ones(name):
    above = {"dipole.policy", "dipole.envs", "dipole.deploy", "dipole.apps", "dipole.benchmarks"}
    for other in imported(FILES[name]):
        assert not any(other.startswith(place) for place in above), other
        if other in FILES and layer(other) != layer(name):
            assert RANK[layer(other)] < RANK[layer(name)], f"{name} imports {other}"


def test_every_folder_has_its_row():
    folders = {layer(name) for name in FILES} - {""}
    assert folders == set(RANK)
    assert entries("data")["data"] <= 12


def test_no_files_import_each_other_in_a_circle():
    assert_no_circle(at_import(FILES))


def test_the_errors_are_found_where_the_first_edition_had_them():
    import dipole.data.errors

    assert dipole.data.errors.DataError is dipole.data.DataError
