"""What can go wrong in a simulator."""

from dipole.data.core.errors import DipoleError


class RolloutError(DipoleError):
    """An episode could not be simulated; the message names it."""
