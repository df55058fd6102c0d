"""Encoders: observation -> Context. Add one in a file of its own and import it here."""

from dipole.policy.encoders import image, join, nothing, state  # noqa: F401  they register themselves
from dipole.policy.encoders.base import Encoder
from dipole.policy.encoders.cameras import cameras_encoder, pooling  # noqa: F401
from dipole.policy.encoders.cameras.backbones import pretrained, resnet  # noqa: F401
from dipole.policy.encoders.text import bytes, words  # noqa: F401  they register themselves

__all__ = ["Encoder"]
