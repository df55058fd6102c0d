"""Objectives beside behaviour cloning, each in a file of its own."""

from dipole.policy.training.objectives import auxiliary  # noqa: F401  it registers itself
