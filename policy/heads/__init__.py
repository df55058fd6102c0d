"""Heads: how a chunk is learned and drawn. Add one in a file of its own and import it here."""

from dipole.policy.heads.diffusion import DiffusionHead

__all__ = ["DiffusionHead"]
