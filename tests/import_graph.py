"""Which of dipole's files import which, read from their source: for tests of layers."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def modules(area):
    """{name: syntax tree} of each file of an area, "data" for example."""
    found = {}
    for file in sorted((ROOT / area).rglob("*.py")):
        parts = file.relative_to(ROOT / area).with_suffix("").parts
        if parts[0] != "_root":  # dipole/__init__.py itself
            name = ".".join(part for part in (f"dipole.{area}", *parts) if part != "__init__")
            found[name] = ast.parse(file.read_text())
    return found


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
        if not _is_for_typing(child) and not isinstance(child, ast.FunctionDef):
            yield child
            yield from _at_import(child)


def _is_for_typing(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def layer(name):
    """The folder or file of its area that a module is in; "" for the area itself."""
    return name.split(".")[2] if name.count(".") > 1 else ""


def at_import(files):
    """{name: names of those that importing it imports}, its own packages aside."""
    return {
        name: {
            other
            for other in imported(tree, runs_at_import=True)
            if other in files and not f"{name}.".startswith(f"{other}.")
        }
        for name, tree in files.items()
    }


def between_layers(files):
    """{layer: layers of the same area that any of its files imports, at whatever time}."""
    found = {layer(name): set() for name in files if layer(name)}
    for name, tree in files.items():
        if layer(name):
            found[layer(name)] |= {layer(other) for other in imported(tree) if other in files}
    return {each: others - {each, ""} for each, others in found.items()}


def assert_no_circle(edges):
    """edges: {name: names that it imports}."""
    done, waiting = set(), []

    def visit(name):
        assert name not in waiting, " imports ".join([*waiting[waiting.index(name) :], name])
        if name not in done:
            waiting.append(name)
            for other in sorted(edges[name]):
                visit(other)
            done.add(waiting.pop())

    for name in sorted(edges):
        visit(name)


def entries(area):
    """{folder: how many files and folders are in it}, for an area and each folder in it."""
    folders = [ROOT / area, *(ROOT / area).rglob("*")]
    return {
        str(folder.relative_to(ROOT)): sum(each.name != "__pycache__" for each in folder.iterdir())
        for folder in folders
        if folder.is_dir() and folder.name != "__pycache__"
    }
