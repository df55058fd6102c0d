"""Package what a robot's computer needs of the folders beside this one: nothing is kept twice."""

import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Every module that a robot's computer has, by package. Tests import each of them where numpy,
# msgpack and websockets are all there is; a module that is not named here is not in it.
MODULES = {
    "": "__init__",
    "data": "__init__",
    "data.core": "__init__ errors from_mapping plugins registry units",
    "data.loading": "__init__ window_spec",
    "data.transforms": (
        "__init__ column_transform conversion number_columns pose_arithmetic rotation "
        "rotation_arrays rotation_columns"
    ),
    "policy": "__init__",
    "policy.diffusion": "__init__ guidance",
    "policy.execution": "__init__ history",
    "deploy": "__init__ sequences types",
    "deploy.chunks": "__init__ action_queue blending interpolation prefix replanner",
    "deploy.inference": "__init__ base process remote virtual worker",
    "deploy.loop": (
        "__init__ arming clock command_sender config control_loop log motion preparation "
        "receding_horizon report report_file run states watched"
    ),
    "deploy.observations": "__init__ angles buffer channel_buffer history",
    "deploy.recording": (
        "__init__ appended_file bounded_queue contents file_format plain recorder replay"
    ),
    "deploy.robots": (
        "__init__ action_math channel dry_run fit groups measurement registry robot sensors"
    ),
    "deploy.safety": (
        "__init__ attempt axis chunk_checks command_filter command_gate deviation limits signals "
        "supervisor times watchdog"
    ),
    "deploy.wire": "__init__ codec openpi protocol websocket",
}
PACKAGES = {f"dipole.{name}".rstrip("."): modules.split() for name, modules in MODULES.items()}
FOLDERS = {
    name: name.removeprefix("dipole").strip(".").replace(".", "/") or "policy/_root"
    for name in PACKAGES
}


class Chosen(build_py):
    """Of each package, the modules that are named."""

    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        missing = set(PACKAGES[package]) - {module for _, module, _ in found}
        if missing:
            raise SystemExit(f"{package} has no module {', '.join(sorted(missing))}: mend MODULES")
        return [entry for entry in found if entry[1] in PACKAGES[package]]


setup(
    version=PROJECT["version"],
    python_requires=PROJECT["requires-python"],
    packages=list(PACKAGES),
    package_dir={name: f"../{folder}" for name, folder in FOLDERS.items()},
    package_data={"dipole": ["py.typed"]},
    cmdclass={"build_py": Chosen},
)
