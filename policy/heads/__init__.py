"""Heads: what learns chunks given a context. Add one in a file of its own and import it here."""

from dipole.policy.heads.base import ChunkBatch, Head, Loss, SampleRequest
from dipole.policy.heads.diffusion import DiffusionHead
from dipole.policy.heads.regression import RegressionHead

__all__ = ["ChunkBatch", "DiffusionHead", "Head", "Loss", "RegressionHead", "SampleRequest"]
