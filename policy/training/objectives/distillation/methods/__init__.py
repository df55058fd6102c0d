"""Methods of distillation, named as in their papers; see `..base.Distillation`."""

from dipole.policy.training.objectives.distillation.methods import (  # noqa: F401
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
