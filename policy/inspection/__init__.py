"""What a trained policy goes by, for people to see."""

from dipole.policy.inspection.heat import Heat, heat_maps

__all__ = ["Heat", "heat_maps"]
