"""dipole: diffusion policies for robots, from demonstrations to a moving robot.

The package's rooms are folders at the root of the repository (`policy/` is `dipole.policy`, and so
on); this file is the root of the import name. See docs/architecture.md.
"""

from importlib.metadata import version

__version__ = version("dipole")
