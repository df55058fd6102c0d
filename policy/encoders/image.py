"""The usual encoder of a robot with cameras: pictures, joined with numbers."""

import inspect
from typing import Any

from dipole.data import Features, WindowSpec
from dipole.policy.core.components import ENCODERS
from dipole.policy.encoders.base import Encoder
from dipole.policy.encoders.cameras.cameras_encoder import CamerasEncoder
from dipole.policy.encoders.join import JoinEncoder


class ImageEncoder(JoinEncoder):
    """Of which the part `cameras` has the settings that the encoder is given."""

    settings = "policy.encoder."


@ENCODERS.add("image")
def image(features: Features, window: WindowSpec, **cameras: Any) -> ImageEncoder:
    """`join` of the part `cameras`, with these options, and of `state`, where there is some."""
    parts: dict[str, Any] = {"cameras": {"name": "cameras", **cameras}}
    if any(feature.kind in Encoder.kinds for feature in features.observation.values()):
        parts["state"] = {"name": "state"}
    return ImageEncoder(features, window, parts)


image.__signature__ = inspect.signature(CamerasEncoder)  # type: ignore[attr-defined]
