"""Policies of one or few steps: students of a teacher, and those that learn without one.

Each method is an objective in a file of its own, named as in its paper; see `base.Distillation`.
"""

from dipole.policy.training.objectives.distillation import (  # noqa: F401
    adversarial,
    consistency,
    consistency_training,
    ctm,
    distribution_matching,
    gan,
    lcm,
    meanflow,
    progressive,
    reflow,
    regression,
    segmented,
    shortcut,
)
