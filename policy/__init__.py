"""Policies: observation in, action chunk out.

Importing this package does not import torch; its policies do, when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dipole.policy.checkpoint import load_policy
    from dipole.policy.policy import Policy, PolicyConfig

__all__ = ["Policy", "PolicyConfig", "load_policy"]


def __getattr__(name: str) -> Any:
    if name == "load_policy":
        from dipole.policy.checkpoint import load_policy

        return load_policy
    if name in ("Policy", "PolicyConfig"):
        from dipole.policy import policy

        return getattr(policy, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
