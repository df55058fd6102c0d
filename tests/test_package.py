"""The package as others get it: one import name, a wheel that works elsewhere, one setup."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from dipole.apps.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = {"policy", "envs", "data", "configs", "deploy", "benchmarks", "apps"}

SPAWN = """
import multiprocessing
from dipole.apps.main import COMMANDS

def count(_):
    import dipole.policy, dipole.data
    return len(COMMANDS)

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(count, [0]))
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what git would commit, with the build tools installed here."""
    source = tmp_path_factory.mktemp("source")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder)]
    run(sys.executable, "-m", "pip", "wheel", *options, str(source))
    return next(folder.glob("dipole-*.whl"))


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """The interpreter of a fresh environment with the wheel; other libraries are borrowed."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    options = ["--no-deps", "--quiet", "--target", str(site)]
    run(sys.executable, "-m", "pip", "install", *options, str(wheel))
    # Not a .pth file: it would bring the editable installation's finder too.
    (site / "sitecustomize.py").write_text(
        f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})"
    )
    return folder / "bin" / "python"


def test_the_packages_are_importable_under_one_name_only():
    for folder in PACKAGES:
        assert importlib.util.find_spec(f"dipole.{folder}") is not None


def test_the_wheel_holds_every_module_config_and_demonstration(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    committed = run("git", "ls-files", *PACKAGES, cwd=ROOT).splitlines()
    for name in committed:
        if (ROOT / name).exists() and name.endswith(
            (".py", ".typed", ".yaml", ".zip", ".html", ".css", ".js")
        ):
            assert f"dipole/{name.removeprefix('policy/_root/')}" in held


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"dipole", f"dipole-{PROJECT['version']}.dist-info"}


@pytest.mark.slow
def test_a_wheel_installed_elsewhere_runs_and_finds_its_configurations(elsewhere, tmp_path):
    where = run(elsewhere, "-c", "import dipole; print(dipole.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(elsewhere.parent.parent)
    assert "usage: dipole" in run(elsewhere, "-m", "dipole.apps.main", "--help", cwd=tmp_path)
    code = (
        "from dipole.apps.compose import compose; print(compose('train', [])['policy']['name']); "
        "import dipole.configs; print(dipole.configs.__file__)"
    )
    policy, configs = run(elsewhere, "-c", code, cwd=tmp_path).split()
    assert policy == "unet_small"
    assert Path(configs).is_relative_to(elsewhere.parent.parent)


@pytest.mark.slow
def test_a_spawned_worker_imports_dipole(elsewhere, tmp_path):
    (tmp_path / "program.py").write_text(SPAWN)
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    assert run(elsewhere, "program.py", cwd=tmp_path, env=environment) == f"[{len(COMMANDS)}]\n"


def test_the_lock_pins_every_dependency_and_names_no_place():
    lock = (ROOT / "requirements.lock").read_text()
    pinned = {line.split("==")[0]: line for line in lock.splitlines() if line}
    assert all("==" in line for line in pinned.values())
    assert not re.search(r"https?:|file:|@|^-", lock, re.MULTILINE)
    extras = PROJECT["optional-dependencies"]
    dev = [requirement for requirement in extras["dev"] if not requirement.startswith("dipole[")]
    whole = set(extras) - {"dev", "pusht", "wandb"}  # dev names them, so that tests run all of them
    assert f"dipole[{','.join(name for name in extras if name in whole)}]" in extras["dev"]
    named = [requirement for name in whole for requirement in extras[name]]
    for requirement in [*PROJECT["dependencies"], *extras["pusht"], *dev, *named]:
        assert re.match(r"[\w.-]+", requirement)[0].lower() in pinned


def test_the_setup_program_and_the_project_agree_on_their_ranges():
    """.ci/environment.py repeats them because it runs before anything can read the project."""
    source = ast.parse((ROOT / ".ci" / "environment.py").read_text())
    constants = {}
    for node in source.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            names = [name.id for name in node.targets[0].elts]
            constants |= dict(zip(names, ast.literal_eval(node.value), strict=True))
    major, newest = constants["NEWEST"]
    oldest = ".".join(map(str, constants["OLDEST"]))
    assert PROJECT["requires-python"] == f">={oldest},<{major}.{newest + 1}"
    low, high = (".".join(map(str, constants[k])) for k in ("TORCH_FROM", "TORCH_BELOW"))
    assert f"torch>={low},<{high}" in PROJECT["dependencies"]


def test_setup_and_the_type_checker_know_the_same_packages():
    makefile = re.search(r"^PACKAGES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    setup = re.search(r"^PACKAGES = (\(.*\))$", (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert set(makefile[1].split()) == set(ast.literal_eval(setup[1])) == PACKAGES
