"""The client side alone: a wheel that needs numpy, msgpack and websockets, and moves a robot."""

import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib import util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = {"numpy", "msgpack", "websockets"}

PROGRAM = """
import sys
import time

import numpy as np

from dipole.deploy import ActionSpec, Channel, Limits, LoopConfig, Reading, Robot, RobotSpec
from dipole.deploy.inference.remote import RemoteInference
from dipole.deploy.loop.run import RunConfig, run_policy


class Arm(Robot):
    spec = RobotSpec(
        {"x": Channel((2,))},
        ActionSpec(("a", "b"), measured_by="x"),
        Limits((-1e5,) * 2, (1e5,) * 2, (1e6,) * 2, (1e7,) * 2),
    )
    x = np.zeros(2)

    def connect(self): pass
    def observe(self): return Reading(time.monotonic(), {"x": self.x.astype(np.float32)})
    def command(self, action): self.x = action
    def hold(self): pass
    def stop(self): print("the robot's own stop")
    def close(self): pass


if __name__ == "__main__":
    patient = LoopConfig(max_observation_age=2.0, call_timeout=2.0)
    report = run_policy(
        Arm(),
        lambda: RemoteInference(sys.argv[1]),
        RunConfig(patient, 1.5, arm="now", watchdog=5.0),
    )
    assert report.counts["actions"] > 3, report
    foreign = {name.partition(".")[0] for name in sys.modules} & {"torch", "zarr", "hydra"}
    assert not foreign, foreign
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that no build folder is left in the repository."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    code = shutil.ignore_patterns("__pycache__", "demos", "build", "*.egg-info")
    for package in ("client", "data", "deploy", "policy"):
        shutil.copytree(ROOT / package, source / package, ignore=code)
    shutil.copy(ROOT / "pyproject.toml", source)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder)]
    run(sys.executable, "-m", "pip", "wheel", *options, str(source / "client"))
    return next(folder.glob("dipole_client-*.whl"))


@pytest.fixture(scope="module")
def robots_python(wheel, tmp_path_factory):
    """An interpreter that has the wheel, the three libraries, and nothing else."""
    folder = tmp_path_factory.mktemp("robot")
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    options = ["--no-deps", "--quiet", "--target", str(site)]
    run(sys.executable, "-m", "pip", "install", *options, str(wheel))
    for library in NEEDED:
        place = Path(util.find_spec(library).origin).parent
        for part in (place, place.with_name(f"{library}.libs")):
            if part.exists():
                (site / part.name).symlink_to(part)
    return folder / "bin" / "python"


def test_it_requires_three_libraries_and_no_more(wheel):
    with zipfile.ZipFile(wheel) as packed:
        name = next(n for n in packed.namelist() if n.endswith("METADATA"))
        said = packed.read(name).decode()
    required = [line.split()[1] for line in said.splitlines() if line.startswith("Requires-Dist")]
    assert {re.match(r"\w+", line)[0] for line in required} == NEEDED
    assert f"Version: {PROJECT['version']}\n" in said


def test_its_ranges_are_the_packages_own():
    client = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]
    numpy = [line for line in PROJECT["dependencies"] if line.startswith("numpy")]
    serve = PROJECT["optional-dependencies"]["serve"]
    assert sorted(client["dependencies"]) == sorted([*numpy, *serve])


@pytest.mark.slow
def test_every_module_of_it_can_be_imported_with_these_alone(wheel, robots_python, tmp_path):
    with zipfile.ZipFile(wheel) as packed:
        names = [n for n in packed.namelist() if n.endswith(".py")]
    modules = [n.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for n in names]
    assert {"dipole", "dipole.deploy.loop.control_loop", "dipole.deploy.inference.remote"} <= set(
        modules
    )
    assert "dipole.deploy.inference.torch_policy" not in modules
    code = (
        f"import importlib, importlib.util\nfor name in {modules}: importlib.import_module(name)\n"
        "assert importlib.util.find_spec('torch') is None\nimport dipole\nprint(dipole.__version__)"
    )
    assert run(robots_python, "-c", code, cwd=tmp_path).strip() == PROJECT["version"]


@pytest.mark.slow
def test_it_moves_a_users_robot_by_a_server_in_another_process(robots_python, tmp_path):
    (tmp_path / "arm.py").write_text(PROGRAM)
    command = [sys.executable, str(Path(__file__).parent / "support" / "serve_counting.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = f"ws://127.0.0.1:{server.stdout.readline().strip()}"
            said = run(robots_python, "arm.py", address, cwd=tmp_path)
        finally:
            server.kill()
    assert "ended STOPPED: the time is up" in said
    assert "the robot's own stop" in said
    assert f"server {address}: reconnected 0 times, round trip p50" in said
