"""Plugins: installed code registers what it adds, once, in every process that needs it."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "example_plugin"  # as pip would install it
LOOK = (
    "import dipole.data.loading.features as f, dipole.envs.registry as e\n"
    "import dipole.deploy.robots.registry as r, sys\n"
    "print('example_plugin' in sys.modules, 'pusht' in e.ENVIRONMENTS)\n"
    "print(f.TRANSFORMS['example_double'](21), r.make_robot('example_robot').spec.action.size)\n"
    "print(e.make_env('example_line').metadata, e.environment_version('example_line'))\n"
)


def python(code, *paths, check=True, script=None):
    """Run in a new process that has these folders installed."""
    before = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([*map(str, paths), before])
    command = [sys.executable, *(["-c", code] if script is None else [str(script)])]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=check)


def plugin(folder, name, code):
    """A distribution `name` whose entry point `name` is a module of this code."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[dipole.plugins]\n{name} = {name}\n")
    return folder


def test_an_installed_plugin_s_parts_are_found_by_name():
    lines = python(LOOK, EXAMPLE).stdout.splitlines()
    assert lines == [
        "False True",  # what is known already needs no plugin
        "42 1",
        "{'render_fps': 20} {'id': 'example_line', 'version': 'example-plugin 1.0'}",
    ]


def test_a_plugin_is_imported_once(tmp_path):
    plugin(tmp_path, "counting", "print('imported')")
    code = (
        "from dipole.data.core.registry import Registry\n"
        "from dipole.data.core.plugins import load_plugins\n"
        "Registry('a').names(); Registry('b').names(); load_plugins()"
    )
    assert python(code, tmp_path).stdout == "imported\n"


def test_worker_processes_find_plugins_too(tmp_path):
    code = (
        "import multiprocessing\n"
        "def look(_):\n"
        "    from dipole.data.loading.features import TRANSFORMS\n"
        "    return TRANSFORMS['example_double'](2)\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(look, [0]))\n"
    )
    (tmp_path / "looking.py").write_text(code)
    done = python(code, EXAMPLE, script=tmp_path / "looking.py")
    assert done.stdout == "[4]\n"


def test_a_broken_plugin_is_named_and_stops_nothing_that_does_not_need_it(tmp_path):
    plugin(tmp_path, "broken", "1 / 0")
    code = (
        "from dipole.data.loading.features import TRANSFORMS\n"
        "import dipole.envs\n"
        "print(TRANSFORMS['pusht_keypoints'].__name__, 'example_double' in TRANSFORMS.names())\n"
        "TRANSFORMS['mine']"
    )
    done = python(code, tmp_path, EXAMPLE, check=False)
    assert done.stdout == "pusht_keypoints True\n"
    failure = (
        "lugin broken of broken 1.0 (broken) cannot be used: ZeroDivisionError: division by zero"
    )
    assert f"RuntimeWarning: p{failure}" in done.stderr
    assert done.stderr.rstrip().endswith(f". P{failure}")
    assert "unknown transform 'mine'" in done.stderr


def test_a_name_that_is_taken_makes_a_plugin_a_broken_one(tmp_path):
    code = (
        "from dipole.data.core.registry import Registry\n"
        "names = Registry('r'); names.add('x')(1); names.add('x')(2)"
    )
    plugin(tmp_path, "twice", code)
    looking = "from dipole.data.core.plugins import load_plugins; print(load_plugins()['twice'])"
    assert "r 'x' is registered twice" in python(looking, tmp_path).stdout


def test_the_doctor_lists_plugins_and_what_is_wrong_with_them(tmp_path):
    plugin(tmp_path, "broken", "1 / 0")
    code = (
        "from dipole.apps.commands.doctor import _plugins\n"
        "for found in _plugins(): print(found.name, found.ok, found.detail)"
    )
    done = python(code, tmp_path, EXAMPLE)
    assert sorted(done.stdout.splitlines()) == [
        "broken False broken of broken 1.0 (broken) cannot be used: ZeroDivisionError: division by "
        "zero",
        "example True example_plugin",
    ]
    assert done.stderr == ""


def test_without_the_plugin_the_name_is_unknown():
    done = python("from dipole.data import TRANSFORMS; TRANSFORMS['example_double']", check=False)
    assert "unknown transform 'example_double'" in done.stderr
