"""Imports within policy/ and envs/ point down, and no files import each other in a circle."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from import_graph import (
    assert_no_circle,
    at_import,
    between_layers,
    entries,
    imported,
    layer,
    modules,
)

AREAS = ("policy", "envs")
ABOVE = {
    "policy": {"envs", "deploy", "apps", "benchmarks"},
    "envs": {"deploy", "apps", "benchmarks"},
}
# Of policy/, from the lowest. Those in one row know nothing of each other.
ROWS = (
    {"core", "context", "normalizer", "held", "observations", "representations"},
    {"diffusion", "normalizers"},
    {"denoisers", "encoders", "execution", "fake_data", "robot_numbers"},
    {"heads"},
    {"config"},
    {"policy"},
    {"checkpoint"},
    {"inspection", "runtimes", "training"},
)
RANK = {each: row for row, layers in enumerate(ROWS) for each in layers}
LARGEST = 16  # entries of a folder
LARGEST_AREA = 24  # of policy/ and envs/ themselves
FILES = {area: modules(area) for area in AREAS}


@pytest.mark.parametrize("name", sorted(name for name in FILES["policy"] if layer(name)))
def test_a_file_of_policy_imports_from_its_own_layer_and_from_lower_ones(name):
    files = FILES["policy"]
    for other in imported(files[name]):
        if other in files and layer(other) not in ("", layer(name)):
            assert RANK[layer(other)] < RANK[layer(name)], f"{name} imports {other}"


@pytest.mark.parametrize("name", sorted(name for name in FILES["policy"] if layer(name)))
def test_a_file_of_policy_takes_nothing_from_the_package_that_imports_it(name):
    files = FILES["policy"]
    own = {f"dipole.policy.{each}" for each in RANK}
    for other in imported(files[name]):
        if other.startswith("dipole.policy.") and other.count(".") == 2:
            assert other in own, f"{name} imports {other}"


def test_every_layer_of_policy_has_its_row():
    assert {layer(name) for name in FILES["policy"]} - {""} == set(RANK)


@pytest.mark.parametrize("area", AREAS)
def test_nothing_is_imported_from_areas_above(area):
    above = tuple(f"dipole.{each}" for each in ABOVE[area])
    for name, tree in FILES[area].items():
        assert not [other for other in imported(tree) if other.startswith(above)], name


@pytest.mark.parametrize("area", AREAS)
def test_no_layers_import_each_other_in_a_circle_not_even_in_functions(area):
    assert_no_circle(between_layers(FILES[area]))


@pytest.mark.parametrize("area", AREAS)
def test_no_files_import_each_other_in_a_circle(area):
    assert_no_circle(at_import(FILES[area]))


@pytest.mark.parametrize("area", AREAS)
def test_no_folder_is_crowded(area):
    found = entries(area)
    assert found.pop(area) <= LARGEST_AREA
    assert {folder for folder, count in found.items() if count > LARGEST} == set()
