"""Policies: observation in, action chunk out."""

from dipole.policy.checkpoint import load_policy
from dipole.policy.policy import Policy, PolicyConfig

__all__ = ["Policy", "PolicyConfig", "load_policy"]
