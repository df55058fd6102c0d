"""Make the virtual environment: `python .ci/environment.py .venv`, which `make setup` calls.

Runs on the plain interpreter, before anything is installed. The pinned versions of
requirements.lock are used as constraints. A torch that this interpreter already has is kept, where
it is within our range: it may be a build for this very machine, and is gigabytes to fetch again.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "pusht,dev"
OLDEST, NEWEST = (3, 11), (3, 13)  # requires-python in pyproject.toml
TORCH_FROM, TORCH_BELOW = (2, 4), (2, 14)  # torch's range in pyproject.toml


def main(folder):
    check_python()
    python = folder / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", str(folder))
    version, place = installed_torch()
    if version:
        borrow(place, folder)
    lock = (ROOT / "requirements.lock").read_text().splitlines(keepends=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(line for line in lock if not (version and is_torch(line))))
    print(
        f"installing dipole[{EXTRAS}]"
        + (f" beside torch {version}" if version else "")
        + " into .venv: some minutes the first time, and again when its requirements changed",
        flush=True,
    )
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--no-compile", "--constraint", str(constraints)]
    run(*install, "--editable", f"{ROOT}[{EXTRAS}]")
    for site in folder.glob("lib/python*/site-packages"):  # by every core, which pip does not
        compile_all = [str(python), "-m", "compileall", "-qq", "-j", "0", str(site)]
        subprocess.run(compile_all, check=False)  # some packages hold files for other versions


def check_python():
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        dotted = [".".join(map(str, numbers)) for numbers in (OLDEST, NEWEST, version)]
        sys.exit(
            f"dipole needs Python {dotted[0]} to {dotted[1]}; {sys.executable} is {dotted[2]}.\n"
            "Name another one: make setup PYTHON=python3.12"
        )


def installed_torch():
    """Version and folder of the torch this interpreter imports; None, None if it cannot serve."""
    probe = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.__version__); print(torch.__file__)"],
        cwd="/",  # this folder has a `data` and more that could be taken for libraries
        check=False,
        capture_output=True,
        text=True,
    )
    lines = probe.stdout.splitlines()
    if probe.returncode or len(lines) != 2:
        return None, None
    numbers = tuple(int(part) for part in lines[0].split("+")[0].split(".")[:2])
    if not TORCH_FROM <= numbers < TORCH_BELOW:
        return None, None
    return lines[0], Path(lines[1]).parent.parent


def borrow(place, folder):
    """Let the environment see that folder of libraries too, after its own ones.

    Not --system-site-packages, which knows nothing of an interpreter that is itself a venv's.
    """
    for site in folder.glob("lib/python*/site-packages"):
        (site / "borrowed.pth").write_text(f"{place}\n")


def is_torch(line):
    return line.startswith(("torch==", "triton=="))


def run(*command):
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
