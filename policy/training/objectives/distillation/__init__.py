"""Policies of one or few steps: students of a teacher, and those that learn without one.

What methods share is here; each method is an objective in a file of its own in `methods/`.
"""

from dipole.policy.training.objectives.distillation import methods  # noqa: F401
