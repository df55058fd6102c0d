"""Denoisers: (noisy chunk, time, Context) -> prediction. Add one in a file and import it here."""

from dipole.policy.core.derivatives import any_derivatives
from dipole.policy.denoisers.dit import DiffusionTransformer
from dipole.policy.denoisers.unet1d import ConditionalUnet1D

__all__ = ["ConditionalUnet1D", "DiffusionTransformer", "any_derivatives"]
