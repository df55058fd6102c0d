"""Package what a robot's computer needs of the folders beside this one: nothing is kept twice."""

import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Where each package is, and which of its modules a robot's computer has; tests import every one of
# them where numpy, msgpack and websockets are all there is.
ROOMS = {
    "dipole": ("policy/_root", ["__init__"]),
    "dipole.data": ("data", ["__init__", "errors", "registry", "window_spec"]),
    "dipole.policy": ("policy", ["__init__", "guidance", "history"]),
    "dipole.deploy": ("deploy", []),  # all but these:
}
ELSEWHERE = {
    "clients", "delayed", "from_checkpoint", "mcap_export", "plant", "policy_compute", "rendezvous",
    "served", "server", "server_config", "sim_pusht",
}  # fmt: skip


class Chosen(build_py):
    """Of each room, the chosen modules."""

    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        chosen = ROOMS[package][1]
        return [
            (name, module, path)
            for name, module, path in found
            if module in chosen or (not chosen and module not in ELSEWHERE)
        ]


setup(
    version=PROJECT["version"],
    python_requires=PROJECT["requires-python"],
    packages=list(ROOMS),
    package_dir={name: f"../{folder}" for name, (folder, _) in ROOMS.items()},
    package_data={"dipole": ["py.typed"]},
    cmdclass={"build_py": Chosen},
)
