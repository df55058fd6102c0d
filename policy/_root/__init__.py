"""dipole: diffusion policies for robots, from demonstrations to a moving robot.

    import dipole

    run = dipole.train(task="pusht_state", policy="unet_small", output="runs/first")
    evaluation = dipole.evaluate(run.checkpoint, episodes=50)
    policy = dipole.load_policy(run.checkpoint)

The package's folders are at the root of the repository (`policy/` is `dipole.policy`, and so on);
this file is the root of the import name. Importing it imports nothing else. See
docs/architecture.md.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dipole.apps.python import distill as distill
    from dipole.apps.python import evaluate as evaluate
    from dipole.apps.python import train as train
    from dipole.policy.checkpoint import load_policy as load_policy

_WHERE = {
    "train": "dipole.apps.python",
    "distill": "dipole.apps.python",
    "evaluate": "dipole.apps.python",
    "load_policy": "dipole.policy.checkpoint",
}
__all__ = ["distill", "evaluate", "load_policy", "train"]


def _installed_version() -> str:
    """Of dipole, or of its client side where a robot's computer has that alone."""
    for name in ("dipole", "dipole-client"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


__version__ = _installed_version()


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_WHERE[name])
    except ModuleNotFoundError as error:
        if not f"{_WHERE[name]}.".startswith(f"{error.name}."):
            raise
        raise ImportError(
            f"dipole.{name} is not part of dipole-client, which a robot's computer has: install "
            "dipole where policies are trained"
        ) from error
    return getattr(module, name)
