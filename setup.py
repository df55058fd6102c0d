"""Install the folders at the root under one import name: policy/ is dipole.policy, and so on."""

from setuptools import find_packages, setup

PACKAGES = ("policy", "envs", "data", "configs", "deploy", "benchmarks", "apps")
packages = [
    package
    for folder in PACKAGES
    for package in [
        folder,
        *(f"{folder}.{sub}" for sub in find_packages(folder, exclude=["_root*"])),
    ]
]
setup(
    packages=["dipole", *(f"dipole.{package}" for package in packages)],
    package_dir={"dipole": "policy/_root"} | {f"dipole.{folder}": folder for folder in PACKAGES},
)
