"""Simulators, experts that act in them, and evaluation.

Importing this room imports no simulator and no torch; it registers what datasets of the simulators need.
"""

from typing import TYPE_CHECKING, Any

from dipole.envs.pusht_geometry import pusht_keypoints
from dipole.envs.registry import ENVIRONMENTS, environment_version, make_env

if TYPE_CHECKING:
    from dipole.envs.evaluate import evaluate
    from dipole.envs.evaluation import Evaluation

__all__ = [
    "ENVIRONMENTS",
    "Evaluation",
    "environment_version",
    "evaluate",
    "make_env",
    "pusht_keypoints",
]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        from dipole.envs.evaluate import evaluate

        return evaluate
    if name == "Evaluation":
        from dipole.envs.evaluation import Evaluation

        return Evaluation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
