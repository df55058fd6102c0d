"""Objectives beside behaviour cloning, each in a file of its own."""

from dipole.policy.training.objectives import (  # noqa: F401  they register themselves
    auxiliary,
    distillation,
)
