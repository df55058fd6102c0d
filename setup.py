"""Install the folders at the root under one import name: policy/ is dipole.policy, and so on."""

from setuptools import find_packages, setup

ROOMS = ("policy", "envs", "data", "configs", "deploy", "apps")
packages = [
    p
    for room in ROOMS
    for p in [room, *(f"{room}.{sub}" for sub in find_packages(room, exclude=["_root*"]))]
]
setup(
    packages=["dipole", *(f"dipole.{p}" for p in packages)],
    package_dir={"dipole": "policy/_root"} | {f"dipole.{room}": room for room in ROOMS},
)
