"""Simulators, experts that act in them, and evaluation.

Importing this package imports no simulator; it registers what datasets of the simulators need.
"""

import dipole.envs.aloha.family
import dipole.envs.experts.random_actions
import dipole.envs.fetch.family
import dipole.envs.fetch.mirror
import dipole.envs.fetch.scene
import dipole.envs.fork.family
import dipole.envs.fork.scene
import dipole.envs.maze.family
import dipole.envs.metaworld.family
import dipole.envs.pusht.family
import dipole.envs.pusht.scene
import dipole.envs.robosuite.family
import dipole.envs.robotics.family  # noqa: F401  they register themselves, and how a state is drawn
from dipole.envs.contract import EnvSpec
from dipole.envs.pusht.geometry import pusht_keypoints
from dipole.envs.registry import ENVIRONMENTS, environment_version, make_env

# After its own module, and not lazily: the function shares its name with the file it is in, and the
# import of a file binds its name here.
from dipole.envs.evaluate import evaluate  # isort: skip
from dipole.envs.evaluation import Evaluation

__all__ = [
    "ENVIRONMENTS",
    "EnvSpec",
    "Evaluation",
    "environment_version",
    "evaluate",
    "make_env",
    "pusht_keypoints",
]
