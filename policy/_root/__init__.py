"""dipole: diffusion policies for robots, from demonstrations to a moving robot.

The package's rooms are folders at the root of the repository (`policy/` is `dipole.policy`, and so
on); this file is the root of the import name. See docs/architecture.md.
"""

from importlib.metadata import PackageNotFoundError, version


def _installed_version() -> str:
    """Of dipole, or of its client side where a robot's computer has that alone."""
    for name in ("dipole", "dipole-client"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


__version__ = _installed_version()
