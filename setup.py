"""Install the folders at the root under one import name: policy/ is dipole.policy, and so on."""

from setuptools import find_packages, setup

ROOMS = ("policy", "envs", "data", "configs", "deploy", "apps")
packages = [
    package
    for room in ROOMS
    for package in [room, *(f"{room}.{sub}" for sub in find_packages(room, exclude=["_root*"]))]
]
setup(
    packages=["dipole", *(f"dipole.{package}" for package in packages)],
    package_dir={"dipole": "policy/_root"} | {f"dipole.{room}": room for room in ROOMS},
)
