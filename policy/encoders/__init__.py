"""Encoders: observation -> Context. Add one in a file of its own and import it here."""

from dipole.policy.encoders.state import StateEncoder

__all__ = ["StateEncoder"]
