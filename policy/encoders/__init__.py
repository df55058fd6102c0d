"""Encoders: observation -> Context. Add one in a file of its own and import it here."""

from dipole.policy.encoders.cameras import pooling, pretrained, resnet  # noqa: F401  they register themselves
from dipole.policy.encoders.cameras.image_encoder import ImageEncoder
from dipole.policy.encoders.state import StateEncoder

__all__ = ["ImageEncoder", "StateEncoder"]
