"""Facts about this machine and its libraries, for `dipole doctor`."""

import importlib
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement

GIB = 2**30
# Where the name to import differs from the name to install.
MODULES = {
    "mcap-ros2-support": "mcap_ros2",
    "hydra-joblib-launcher": "hydra_plugins.hydra_joblib_launcher",
    "hydra-submitit-launcher": "hydra_plugins.hydra_submitit_launcher",
    "hydra-optuna-sweeper": "hydra_plugins.hydra_optuna_sweeper",
    "hydra-core": "hydra",
    "pillow": "PIL",
    "pillow-jxl-plugin": "pillow_jxl",
    "pytest-xdist": "xdist",
}


@dataclass(frozen=True)
class Library:
    """A library that dipole asks for: works means that it loads, in a version we allow."""

    name: str
    requirement: str  # as pip takes it
    detail: str  # the version, or what is wrong
    works: bool


def libraries(extra: str | None) -> list[Library]:
    """The libraries of one extra, or those that dipole always needs (None)."""
    return [_library(requirement) for requirement in _requirements(extra)]


def extras() -> list[str]:
    return metadata.metadata("dipole").get_all("Provides-Extra") or []


def _requirements(extra: str | None) -> Iterator[Requirement]:
    for line in metadata.requires("dipole") or []:
        requirement = Requirement(line)
        of_an_extra = requirement.marker is not None and "extra" in str(requirement.marker)
        if extra is None and of_an_extra:
            continue
        if extra is not None and not of_an_extra:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra or ""}):
            yield requirement


def _library(requirement: Requirement) -> Library:
    name = requirement.name
    wanted = f"{name}{requirement.specifier}"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Library(name, wanted, "not installed", False)
    if not requirement.specifier.contains(version, prereleases=True):
        return Library(name, wanted, f"{version}, needed {requirement.specifier}", False)
    try:
        importlib.import_module(MODULES.get(name, name.replace("-", "_")))
    except Exception as error:
        return Library(name, wanted, f"{version} does not load: {_first_line(error)}", False)
    return Library(name, wanted, version, True)


def torchvision_clash() -> str:
    """Why the installed torchvision does not load, or nothing."""
    try:
        version = metadata.version("torchvision")
        importlib.import_module("torchvision")
    except metadata.PackageNotFoundError:
        return ""
    except Exception as error:
        return f"{version} does not load beside this torch: {_first_line(error)}"
    return ""


def devices() -> Iterator[tuple[str, str, str]]:
    """(name, what there is, remedy where something is amiss)."""
    yield "cpu", f"{platform.machine()}, {_usable_cores()} of {os.cpu_count()} cores usable", ""
    try:
        import torch
    except Exception as error:
        yield "torch", f"does not load: {_first_line(error)}", ""
        return
    policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    remedy = "" if policy.upper() == "PASSIVE" else "export OMP_WAIT_POLICY=PASSIVE"
    yield "threads", f"torch uses {torch.get_num_threads()}; OMP_WAIT_POLICY is {policy}", remedy
    from dipole.policy.training.hardware.precision import bf16_is_faster, multiplies_bf16

    cpu = torch.device("cpu")
    found = "multiplied by the processor" if multiplies_bf16(cpu) else "not by this processor"
    yield "bf16", f"{found}, {'faster' if bf16_is_faster(cpu) else 'not faster'} than fp32", ""
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        yield f"cuda:{number}", f"{device.name}, {device.total_memory / GIB:.0f} GiB", ""
    if torch.backends.mps.is_available():
        yield "mps", "Apple GPU", ""
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        remedy = "install the CUDA build of torch that fits the driver, see pytorch.org"
        yield (
            "cuda",
            f"there is an NVIDIA driver, but torch {torch.__version__} finds no GPU",
            remedy,
        )


def memory() -> str:
    """Free memory, within the container's limit where there is one."""
    try:
        from dipole.data.core.memory import free_memory
    except Exception as error:  # it needs torch and zarr, and this report has to say so
        return f"unknown: {_first_line(error)}"
    return f"{free_memory() / GIB:.1f} GiB free"


def disk() -> str:
    usage = shutil.disk_usage(".")
    return f"{usage.free / GIB:.1f} GiB free of {usage.total / GIB:.1f}, in this folder"


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
