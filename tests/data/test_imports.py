"""Imports within data/ point down, and no two of its files import each other in a circle."""

import ast
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
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


def modules():
    """Name and syntax tree of each file."""
    for file in sorted(DATA.rglob("*.py")):
        parts = file.relative_to(DATA).with_suffix("").parts
        name = ".".join(part for part in ("dipole.data", *parts) if part != "__init__")
        yield name, ast.parse(file.read_text())


def imported(tree, runs_at_import=False):
    """Names of dipole that a file imports: everywhere, or only where importing it runs them."""
    nodes = ast.walk(tree) if not runs_at_import else _at_import(tree)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dipole"):
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("dipole"))


def _at_import(node):
    for child in ast.iter_child_nodes(node):
        typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not typing and not isinstance(child, ast.FunctionDef):
            yield child
            yield from _at_import(child)


FILES = dict(modules())


def layer(name):
    return name.split(".")[2] if name.count(".") > 1 else ""


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
    assert len([entry for entry in DATA.iterdir() if entry.name != "__pycache__"]) <= 12


def test_no_files_import_each_other_in_a_circle():
    edges = {
        name: {
            other
            for other in imported(tree, runs_at_import=True)
            # A file's own packages are always imported before it.
            if other in FILES and not f"{name}.".startswith(f"{other}.")
        }
        for name, tree in FILES.items()
    }
    done, waiting = set(), []

    def visit(name):
        assert name not in waiting, " imports ".join([*waiting[waiting.index(name) :], name])
        if name not in done:
            waiting.append(name)
            for other in sorted(edges[name]):
                visit(other)
            done.add(waiting.pop())

    for name in sorted(FILES):
        visit(name)


def test_the_errors_are_found_where_the_first_edition_had_them():
    import dipole.data.errors

    assert dipole.data.errors.DataError is dipole.data.DataError
